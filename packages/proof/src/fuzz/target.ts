/** What `npm run fuzz` attacks. */

/** Something to attack. */
export interface Target {
  readonly name: string
  readonly corpus: ReadonlyArray<Uint8Array>
  /**
   * Reads the bytes. Gives what it came to, whose size is then held against theirs; throws for anything but a value or the
   * decoder's own error.
   */
  readonly run: (bytes: Uint8Array) => unknown
}
