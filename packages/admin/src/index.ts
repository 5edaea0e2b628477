/** A live page of the clients and servers of a program. */
export { Admin, type AdminOptions } from "./Admin.ts"
export type { Page } from "./snapshot.ts"
