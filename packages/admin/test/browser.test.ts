/**
 * The page in a real browser: what it shows, that it keeps itself at the state of things, works with a keyboard and in both colour schemes, and takes
 * nothing it shows for HTML. Needs Chromium: Debian's `chromium`, or one that CHROMIUM names.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { existsSync } from "node:fs"
import { type Browser, chromium, type Page } from "playwright-core"
import { program, serve, uriOf } from "./support.ts"

/** What runs in the browser finds these there. */
declare const document: any
declare const getComputedStyle: any
declare const NodeFilter: any
declare const MutationObserver: any
interface Element {
  readonly parentElement: Element | null
  readonly closest: (selector: string) => Element | null
}

const executable = [process.env["CHROMIUM"], "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
  .find((path) => path !== undefined && existsSync(path))
if (executable === undefined) {
  const how = "no Chromium: `apt-get install chromium`, or name one in CHROMIUM"
  if (process.env["CI"]) throw new Error(how)
  console.warn(`the page is not tried in a browser: ${how}`)
}

const promise = <A>(run: () => Promise<A>): Effect.Effect<A> => Effect.promise(run)

/** The contrast of two colours as WCAG 2 has it, 1 to 21. Runs in the page. */
const worstContrast = (): { readonly contrast: number; readonly text: string } => {
  const luminance = (colour: string) => {
    const [r, g, b] = colour.match(/[\d.]+/g)!.slice(0, 3).map((channel) => {
      const share = Number(channel) / 255
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
  }
  const backgroundOf = (element: Element | null): string => {
    for (let at = element; at !== null; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at)
      if (backgroundColor !== "rgba(0, 0, 0, 0)") return backgroundColor
    }
    return "rgb(255, 255, 255)"
  }
  let worst = { contrast: 21, text: "" }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const element = node.parentElement!
    if (node.nodeValue!.trim() === "" || element.closest("script, noscript, .skip") !== null) continue
    const [light, dark] = [luminance(getComputedStyle(element).color), luminance(backgroundOf(element))]
    const contrast = (Math.max(light, dark) + 0.05) / (Math.min(light, dark) + 0.05)
    if (contrast < worst.contrast) worst = { contrast, text: node.nodeValue! }
  }
  return worst
}

const rowOf = (page: Page, name: string) => page.locator(`tr[key="${name}"]`)

describe.skipIf(executable === undefined)("the page in a browser", () => {
  let browser: Browser

  beforeAll(async () => {
    browser = await chromium.launch({
      executablePath: executable!,
      args: process.getuid?.() === 0 ? ["--no-sandbox"] : []
    })
  }, 60_000)
  afterAll(() => browser.close())

  /** Opens the page; whatever the browser complains of, and whatever it asks of anybody else, fails the test. */
  const open = (url: string, colorScheme: "light" | "dark" = "light") =>
    Effect.acquireRelease(
      promise(async () => {
        const page = await browser.newPage({ colorScheme, viewport: { width: 1200, height: 900 } })
        const complaints: Array<string> = []
        page.on("console", (message) => complaints.push(message.text()))
        page.on("pageerror", (error) => complaints.push(String(error)))
        page.on("request", (request) => {
          if (!request.url().startsWith(new URL(url).origin) && request.url() !== "data:,") {
            complaints.push(`asked for ${request.url()}`)
          }
        })
        await page.goto(url)
        await page.waitForSelector("main > *")
        return { page, complaints }
      }),
      ({ page }) => promise(() => page.close())
    )

  it.live(
    "shows methods, endpoints with what is wrong with them, and keeps at it",
    () =>
      program(({ client, url }) =>
        Effect.gen(function*() {
          const { uri } = yield* serve()
          const echo = yield* client(uriOf(uri, "tcp://127.0.0.1:1"), { label: "users" })
          for (let i = 0; i < 5; i++) yield* Effect.orDie(echo.ping())
          yield* Effect.ignore(echo.fail("no", 0n as never))
          const { complaints, page } = yield* open(url)
          yield* promise(async () => {
            await rowOf(page, "ping").locator("td").first().filter({ hasText: /^5$/ }).waitFor()
            await rowOf(page, "fail").locator("td").nth(1).filter({ hasText: /^01 ThriftException$/ }).waitFor()
            await rowOf(page, uri.slice("tcp://".length)).locator(".state.Open").waitFor()
            assert.strictEqual(await page.title(), "users – Scales")
          })
          for (let i = 0; i < 2; i++) yield* Effect.orDie(echo.ping())
          yield* promise(() => rowOf(page, "ping").locator("td").first().filter({ hasText: /^7$/ }).waitFor())
          assert.deepStrictEqual(complaints, [])
        })
      ),
    60_000
  )

  it.live(
    "shows a server with what it has answered",
    () =>
      program(({ client, server, url }) =>
        Effect.gen(function*() {
          const { uri } = yield* server()
          const echo = yield* client(uri)
          for (let i = 0; i < 3; i++) yield* Effect.orDie(echo.ping())
          const { complaints, page } = yield* open(url)
          yield* promise(async () => {
            await page.locator("nav a").nth(1).click()
            await page.locator("main h2", { hasText: "server" }).waitFor()
            await rowOf(page, "ping").locator("td").first().filter({ hasText: /^3$/ }).waitFor()
          })
          assert.deepStrictEqual(complaints, [])
        })
      ),
    60_000
  )

  it.live(
    "lives on when its address names nobody, and with methods of any name",
    () =>
      program(({ url }) =>
        Effect.gen(function*() {
          const { page, complaints } = yield* open(`${url}/#%`)
          yield* promise(() => page.locator("main", { hasText: "No client or server is there yet." }).waitFor())
          assert.deepStrictEqual(complaints, [])
        })
      ),
    60_000
  )

  it.live(
    "works with the keyboard alone, and keeps the focus and what is open while it updates",
    () =>
      program(({ client, url }) =>
        Effect.gen(function*() {
          const { uri } = yield* serve()
          const first = yield* client(uri, { label: "first" })
          yield* client(uri, { label: "second" })
          yield* Effect.orDie(first.ping())
          const { complaints, page } = yield* open(url)
          const updated = () =>
            page.evaluate(() =>
              new Promise<void>((resolve) => {
                const status = document.getElementById("status")!
                new MutationObserver((_: unknown, observer: any) => {
                  observer.disconnect()
                  resolve()
                }).observe(status, { childList: true, characterData: true, subtree: true })
              })
            )
          /** Presses Tab until the focus is on what has this text. */
          const tabTo = async (text: RegExp) => {
            for (let i = 0; i < 60; i++) {
              await page.keyboard.press("Tab")
              const focused = await page.evaluate(() => document.activeElement?.textContent ?? "")
              if (text.test(focused)) return
            }
            assert.fail(`no way to ${text} with Tab`)
          }
          yield* promise(async () => {
            await tabTo(/^Skip to/)
            await tabTo(/^Pause$/)
            await tabTo(/^second$/)
            await page.keyboard.press("Enter")
            await page.locator("main h2", { hasText: "client second" }).waitFor()
            assert.strictEqual(await page.evaluate(() => document.activeElement?.id), "main")
            await tabTo(/^load/)
            await page.keyboard.press("Enter")
            await page.locator("th[aria-sort=descending]", { hasText: "load" }).waitFor()
            await page.keyboard.press("Enter")
            await page.locator("th[aria-sort=ascending]", { hasText: "load" }).waitFor()
            await tabTo(/^balancer/)
            await page.keyboard.press("Enter")
            await page.locator("details[open]", { hasText: "whenEmpty" }).waitFor()
            await updated()
            assert.match(await page.evaluate(() => document.activeElement!.textContent!), /^balancer/)
            assert.strictEqual(await page.locator("details[open]").count(), 1)
          })
          assert.deepStrictEqual(complaints, [])
        })
      ),
    60_000
  )

  it.live("can be paused, and says when the program does not answer", () =>
    Effect.gen(function*() {
      const gone = yield* Deferred.make<void>()
      const page = yield* program(({ client, url }) =>
        Effect.gen(function*() {
          const { uri } = yield* serve()
          const echo = yield* client(uri)
          yield* Effect.orDie(echo.ping())
          const page = yield* promise(async () => {
            const page = await browser.newPage()
            await page.goto(url)
            await rowOf(page, "ping").waitFor()
            await page.locator("#pause").click()
            await page.locator("#status", { hasText: "paused" }).waitFor()
            return page
          })
          yield* Effect.orDie(echo.ping())
          yield* promise(async () => {
            assert.strictEqual(await rowOf(page, "ping").locator("td").first().textContent(), "1")
            await page.locator("#pause").click()
            await rowOf(page, "ping").locator("td").first().filter({ hasText: /^2$/ }).waitFor()
          })
          yield* Deferred.succeed(gone, undefined)
          return page
        })
      )
      yield* Deferred.await(gone)
      yield* promise(async () => {
        await page.locator("#status.bad", { hasText: "the program does not answer" }).waitFor()
        // What was known stands.
        assert.strictEqual(await rowOf(page, "ping").count(), 1)
        await page.close()
      })
    }), 60_000)

  it.live("takes nothing that it shows for HTML", () =>
    program(({ client, url }) =>
      Effect.gen(function*() {
        const label = `<img src=x onerror="document.title='taken'"><b>bold</b>`
        yield* client("tcp://127.0.0.1:1", { label })
        const { complaints, page } = yield* open(url)
        yield* promise(async () => {
          await page.locator("main h2", { hasText: label }).waitFor()
          assert.strictEqual(await page.locator("main img, main b, nav img").count(), 0)
          assert.strictEqual(await page.title(), `${label} – Scales`)
        })
        assert.deepStrictEqual(complaints, [])
      })
    ), 60_000)

  for (const scheme of ["light", "dark"] as const) {
    it.live(
      `can be read in the ${scheme} scheme: every text has a contrast of 4.5 at least`,
      () =>
        program(({ client, url }) =>
          Effect.gen(function*() {
            const { uri } = yield* serve()
            const echo = yield* client(uriOf(uri, "tcp://127.0.0.1:1"))
            yield* client("tcp://127.0.0.1:1", { label: "down" })
            for (let i = 0; i < 5; i++) yield* Effect.orDie(echo.ping())
            const { complaints, page } = yield* open(url, scheme)
            yield* promise(async () => {
              await rowOf(page, "ping").waitFor()
              for (const summary of await page.locator("summary").all()) await summary.click()
              const { contrast, text } = await page.evaluate(worstContrast)
              assert.isAtLeast(contrast, 4.5, text)
              const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor)
              assert.strictEqual(background, scheme === "light" ? "rgb(255, 255, 255)" : "rgb(20, 23, 26)")
            })
            assert.deepStrictEqual(complaints, [])
          })
        ),
      60_000
    )
  }

  it.live(
    "fits a narrow window: nothing but its tables scrolls sideways",
    () =>
      program(({ client, url }) =>
        Effect.gen(function*() {
          const { uri } = yield* serve()
          const echo = yield* client(uri)
          yield* Effect.orDie(echo.ping())
          const { page } = yield* open(url)
          yield* promise(async () => {
            await page.setViewportSize({ width: 360, height: 700 })
            await rowOf(page, "ping").waitFor()
            assert.isAtMost(await page.evaluate(() => document.documentElement.scrollWidth), 360)
          })
        })
      ),
    60_000
  )
})
