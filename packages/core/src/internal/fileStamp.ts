/** What tells that a file was written or replaced, without reading it. */
import * as Fs from "node:fs/promises"

/** The code of what the system answered, such as `ENOENT`. */
export const codeOf = (cause: unknown): string =>
  cause instanceof Error && "code" in cause ? String(cause.code) : "an unknown error"

/** What changes when a file is written, or replaced: a link to another file counts as that file. A code of `codeOf` when there is none. */
export const stampOf = (path: string): Promise<string> =>
  Fs.stat(path, { bigint: true }).then(
    ({ ctimeNs, ino, mtimeNs, size }) => `${ino} ${size} ${mtimeNs} ${ctimeNs}`,
    codeOf
  )
