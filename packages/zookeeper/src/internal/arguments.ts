/** What ZooKeeper takes as a path and as an access list: checked before it is sent, so that every client answers alike. */
import type { Acl } from "../Session.ts"

/** Controls, surrogates, the private use area and the end of the first plane. */
// oxlint-disable-next-line no-control-regex
const forbidden = /[\u0000-\u001f\u007f-\u009f\ud800-\uf8ff\ufff0-\uffff]/

/** Whether a path is one: absolute, no empty or relative part, no slash at the end, no character that ZooKeeper forbids. */
export const isPath = (path: string): boolean =>
  path === "/" || (/^(\/[^/]+)+$/.test(path) && !/\/\.\.?(\/|$)/.test(path) && !forbidden.test(path))

/** Whether each entry has letters of `rwcda` alone, at least one. */
export const isAcl = (acl: ReadonlyArray<Acl>): boolean =>
  acl.length > 0 && acl.every(({ permissions }) => /^[rwcda]+$/.test(permissions))
