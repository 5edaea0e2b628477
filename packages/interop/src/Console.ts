/** Lines between this program and who started it: words come in, READY, OK, ERROR and EVENT with a JSON object go out. */
import { createInterface } from "node:readline"

/** Writes one line. */
export const say = (kind: string, fields: object = {}): void =>
  void process.stdout.write(`${kind} ${JSON.stringify(fields)}\n`)

/** Takes each command, its id and its words, one after the other until stdin ends; that ends the program too, after `end`. */
export const commands = async (
  take: (id: string, words: ReadonlyArray<string>) => Promise<void>,
  end: () => Promise<void> = async () => {}
): Promise<never> => {
  for await (const line of createInterface({ input: process.stdin })) {
    const [id = "", ...words] = line.split(" ")
    await take(id.slice(1), words)
  }
  await end()
  process.exit()
}
