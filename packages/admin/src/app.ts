/**
 * What runs in the browser. The page carries this function as text, so it stands alone: it uses nothing from outside of itself, and what it shows of a
 * client it shows as text, never as HTML.
 */

/** As much of a browser as the page uses. The library of its types is not loaded: it would change what every other module's types mean. */
interface BrowserNode {
  readonly nodeName: string
  nodeValue: string | null
  readonly firstChild: BrowserNode | null
  readonly nextSibling: BrowserNode | null
  readonly childNodes: Iterable<BrowserNode>
  readonly insertBefore: (node: BrowserNode, before: BrowserNode | null) => void
  readonly remove: () => void
}
interface BrowserElement extends BrowserNode {
  readonly attributes: Iterable<{ readonly name: string; readonly value: string }>
  readonly children: Iterable<BrowserElement>
  className: string
  textContent: string | null
  readonly getAttribute: (name: string) => string | null
  readonly setAttribute: (name: string, value: string) => void
  readonly removeAttribute: (name: string) => void
  readonly hasAttribute: (name: string) => boolean
  readonly append: (...children: ReadonlyArray<BrowserNode | string>) => void
  readonly closest: (selector: string) => BrowserElement | null
  readonly focus: () => void
  readonly addEventListener: (event: string, listener: () => void) => void
}
declare const document: {
  title: string
  readonly hidden: boolean
  readonly createElement: (tag: string) => BrowserElement
  readonly createElementNS: (namespace: string, tag: string) => BrowserElement
  readonly getElementById: (id: string) => BrowserElement | null
  readonly addEventListener: (event: string, listener: (event: { readonly target: unknown }) => void) => void
}
declare const location: { readonly hash: string }
declare const addEventListener: (event: string, listener: () => void) => void

/** Asks for the state of things every second, and keeps the page at it. */
export const app = (): void => {
  type Json = any
  type Child = BrowserNode | string | number | undefined | false
  const intervalMillis = 1000
  const historyLength = 120

  /** An element: `class`, `on...` handlers, and attributes; `key` names it among its siblings from one state to the next. */
  const el = (
    tag: string,
    attributes: Record<string, string | undefined> = {},
    ...children: ReadonlyArray<Child | ReadonlyArray<Child>>
  ): BrowserElement => fill(document.createElement(tag), attributes, children)

  const fill = <E extends BrowserElement>(
    element: E,
    attributes: Record<string, string | undefined>,
    children: ReadonlyArray<Child | ReadonlyArray<Child>>
  ): E => {
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(name, value)
    for (const child of children.flat()) {
      if (child === undefined || child === false) continue
      element.append(typeof child === "object" ? child : String(child))
    }
    return element
  }

  const svg = (tag: string, attributes: Record<string, string>, ...children: ReadonlyArray<Child>): BrowserElement =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children)

  const isElement = (node: BrowserNode): node is BrowserElement => "getAttribute" in node

  /** Makes `from` as `to` is, in place: what has the focus, is open or is selected stays so. */
  const morph = (from: BrowserElement, to: BrowserElement): void => {
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && !(name === "open" && from.nodeName === "DETAILS")) from.removeAttribute(name)
    }
    for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value)
    const keyed = new Map<string, BrowserElement>()
    for (const child of from.children) {
      const key = child.getAttribute("key")
      if (key !== null) keyed.set(key, child)
    }
    let at: BrowserNode | null = from.firstChild
    for (const wanted of [...to.childNodes]) {
      const key = isElement(wanted) ? wanted.getAttribute("key") : null
      const old: BrowserNode | null = key === null ? at : keyed.get(key) ?? null
      const same = old !== null && old.nodeName === wanted.nodeName &&
        (!isElement(old) || old.getAttribute("key") === key)
      if (!same) {
        from.insertBefore(wanted, at)
        continue
      }
      if (old !== at) from.insertBefore(old, at)
      else at = old.nextSibling
      if (isElement(old)) morph(old, wanted as BrowserElement)
      else if (old.nodeValue !== wanted.nodeValue) old.nodeValue = wanted.nodeValue
    }
    while (at !== null) {
      const next: BrowserNode | null = at.nextSibling
      at.remove()
      at = next
    }
  }

  const count = (value: number): string => value.toLocaleString("en")
  const millis = (value: number | undefined): string =>
    value === undefined
      ? "–"
      : value >= 1000
      ? `${(value / 1000).toPrecision(3)} s`
      : value >= 1
      ? `${value.toPrecision(3)} ms`
      : `${Math.round(value * 1000)} µs`
  const share = (value: number): string => `${(100 * value).toFixed(value > 0.999 && value < 1 ? 3 : 1)} %`
  const shown = (value: Json): string =>
    value === undefined || value === null
      ? "none"
      : typeof value === "number"
      ? Number.isInteger(value) ? count(value) : String(Number(value.toPrecision(4)))
      : typeof value === "string"
      ? value
      : JSON.stringify(value)
  /** `medianLatencyMillis` as words. */
  const words = (name: string): string => name.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase()
  const quantile = (quantiles: Json, of: number): number | undefined =>
    (quantiles ?? []).find(([each]: [number]) => each === of)?.[1] ?? undefined

  let latest: Json
  let failure: string | undefined
  let paused = false
  let sortBy = "state"
  let descending = false
  /** Calls a second and failures a second of each client, the last two minutes. */
  const history = new Map<string, Array<{ calls: number; failures: number }>>()
  const totals = new Map<string, { at: number; calls: number; failures: number }>()

  const keyOf = (one: Json): string => `${one.kind}:${one.id}`
  const hashOf = (one: Json): string => `#${encodeURIComponent(keyOf(one))}`
  const all = (): Array<Json> => latest === undefined ? [] : [...latest.clients, ...latest.servers]
  const chosen = (): Json => {
    return all().find((one) => hashOf(one) === location.hash) ?? all()[0]
  }
  /** What was counted of the calls of a client, by its dispatcher, or of the requests of a server, which counts them by service and method. */
  const callsOf = (one: Json): Json => {
    const dispatcher = one.stages.find(({ role }: Json) => role === "dispatcher")
    if (dispatcher !== undefined) return dispatcher.state
    const service = one.stages.find(({ role }: Json) => role === "service")
    if (service === undefined) return undefined
    const services = Object.entries<Json>(service.state)
    const methods: Record<string, Json> = {}
    const failures: Record<string, number> = {}
    let calls = 0
    let outstanding = 0
    for (const [name, each] of services) {
      for (const [method, stats] of Object.entries<Json>(each)) {
        methods[services.length === 1 ? method : `${name}.${method}`] = stats
        calls += stats.requests
        outstanding += stats.pending
        for (const [tag, times] of Object.entries<number>(stats.failures)) failures[tag] = (failures[tag] ?? 0) + times
      }
    }
    return { calls, outstanding, failures, methods }
  }
  /** An exception that the IDL declares is an answer. */
  const declared = "ThriftException"
  const failuresOf = (calls: Json): number =>
    Object.entries<number>(calls?.failures ?? {}).reduce((sum, [tag, each]) => tag === declared ? sum : sum + each, 0)
  const declaredOf = (calls: Json): number => calls?.failures?.[declared] ?? 0

  const note = (): void => {
    for (const one of all()) {
      const calls = callsOf(one)
      if (calls === undefined) continue
      const now = { at: latest.at, calls: calls.calls, failures: failuresOf(calls) }
      const before = totals.get(keyOf(one))
      totals.set(keyOf(one), now)
      if (before === undefined || now.at <= before.at) continue
      const seconds = (now.at - before.at) / 1000
      const points = history.get(keyOf(one)) ?? []
      points.push({ calls: (now.calls - before.calls) / seconds, failures: (now.failures - before.failures) / seconds })
      if (points.length > historyLength) points.shift()
      history.set(keyOf(one), points)
    }
  }

  /** Calls a second over the last two minutes. */
  const graph = (points: ReadonlyArray<{ calls: number; failures: number }>): BrowserNode => {
    const width = 480
    const height = 72
    const most = Math.max(1, ...points.map(({ calls }) => calls))
    const line = (of: "calls" | "failures") =>
      points.map((point, i) =>
        `${((i + historyLength - points.length) * width / (historyLength - 1)).toFixed(1)},${
          (height - 2 - point[of] * (height - 6) / most).toFixed(1)
        }`
      ).join(" ")
    return el(
      "figure",
      { class: "graph", key: "graph" },
      svg(
        "svg",
        {
          viewBox: `0 0 ${width} ${height}`,
          preserveAspectRatio: "none",
          role: "img",
          "aria-label": "calls and failures a second over the last two minutes"
        },
        svg("polyline", { class: "calls", points: line("calls") }),
        svg("polyline", { class: "failures", points: line("failures") })
      ),
      el(
        "figcaption",
        {},
        el("span", { class: "key calls" }, "calls"),
        " and ",
        el("span", { class: "key failures" }, "failures"),
        ` a second, the last two minutes; most ${shown(Math.round(most))}`
      )
    )
  }

  const tile = (name: string, value: string, more = "", level = ""): BrowserNode =>
    el("div", { class: `tile ${level}`, key: name }, el("dt", {}, name), el("dd", {}, value), el("small", {}, more))

  const tiles = (one: Json): BrowserNode => {
    const calls = callsOf(one)
    const total = calls?.calls ?? 0
    const failed = failuresOf(calls)
    const now = history.get(keyOf(one))?.at(-1)
    const balancer = one.stages.find(({ role }: Json) => role === "balancer")?.state
    const budget = one.stages.map(({ state }: Json) => state?.budget).find((value: Json) => typeof value === "number")
    return el(
      "dl",
      { class: "tiles", key: "tiles" },
      tile("calls", count(total), now === undefined ? "" : `${count(Math.round(now.calls))} a second`),
      tile(
        "success",
        total === 0 ? "–" : share((total - failed) / total),
        `${count(failed)} failed, ${count(declaredOf(calls))} declared exceptions`,
        failed > 0 && now !== undefined && now.failures > 0 ? "bad" : ""
      ),
      tile("in flight", count(calls?.outstanding ?? 0)),
      balancer === undefined
        ? undefined as never
        : tile(
          "endpoints",
          `${count(balancer.usable)} of ${count(balancer.size)}`,
          `${count(balancer.down)} down, ${count(balancer.busy)} busy, ${count(balancer.draining)} draining`,
          balancer.usable === 0 ? "bad" : balancer.down > 0 ? "warn" : "good"
        ),
      ...(typeof balancer?.active !== "number"
        ? []
        : [tile("aperture", `${count(balancer.active)} of ${count(balancer.size)}`, "endpoints that get calls")]),
      ...(budget === undefined ? [] : [tile("retry budget", count(budget), "retries left", budget === 0 ? "bad" : "")])
    )
  }

  const heading = (column: string, name: string, numeric: boolean): BrowserNode => {
    const sorted = sortBy === column
    return el(
      "th",
      {
        scope: "col",
        class: numeric ? "n" : "",
        "aria-sort": sorted ? descending ? "descending" : "ascending" : undefined
      },
      el("button", { type: "button", "data-sort": column }, name, sorted ? descending ? " ▾" : " ▴" : "")
    )
  }

  const table = (caption: string, head: ReadonlyArray<Child>, rows: ReadonlyArray<Child>): BrowserNode =>
    el(
      "div",
      { class: "scroll", key: caption, tabindex: "0", role: "region", "aria-label": caption },
      el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows))
    )
  const th = (name: string, numeric = false): BrowserNode => el("th", { scope: "col", class: numeric ? "n" : "" }, name)
  const n = (value: string): BrowserNode => el("td", { class: "n" }, value)

  /** How many failed, and of what: a line each. */
  const failed = (calls: Json): BrowserNode =>
    el(
      "td",
      { class: "n" },
      count(failuresOf(calls)),
      ...Object.entries<number>(calls.failures).map(([tag, times]) =>
        el("small", { key: tag }, `${count(times)} ${tag}`)
      )
    )

  /** Where the quantiles of the last minute stand, on a scale on which each step is ten times the one before. */
  const distribution = (quantiles: Json): BrowserNode => {
    const known = (quantiles ?? []).filter(([, value]: Json) => typeof value === "number")
    const lowest = -2
    const highest = 5
    const at = (value: number) =>
      (Math.min(Math.max(Math.log10(value), lowest), highest) - lowest) / (highest - lowest) * 200
    if (known.length === 0) return el("span", { class: "quiet" }, "no calls in the last minute")
    return svg(
      "svg",
      {
        class: "distribution",
        viewBox: "0 0 200 14",
        role: "img",
        "aria-label": known.map(([each, value]: Json) => `${share(each)} within ${millis(value)}`).join(", ")
      },
      ...[-1, 0, 1, 2, 3, 4].map((power) =>
        svg("line", { class: "tick", x1: `${at(10 ** power)}`, x2: `${at(10 ** power)}`, y1: "0", y2: "14" })
      ),
      svg("rect", {
        x: `${at(known[0][1])}`,
        width: `${Math.max(1, at(known.at(-1)[1]) - at(known[0][1]))}`,
        y: "5",
        height: "4"
      }),
      ...known.map(([each, value]: Json, i: number) =>
        svg(
          "circle",
          { cx: `${at(value)}`, cy: "7", r: `${4 - i * 0.5}` },
          svg("title", {}, `${share(each)} within ${millis(value)}`)
        )
      )
    )
  }

  const methods = (one: Json): BrowserNode | undefined => {
    const rows = Object.entries<Json>(callsOf(one)?.methods ?? {}).toSorted(([, a], [, b]) => b.requests - a.requests)
    if (rows.length === 0) return undefined
    return table(
      "Methods",
      [
        th("method"),
        th("calls", true),
        th("failed", true),
        th("in flight", true),
        th("p50", true),
        th("p90", true),
        th("p99", true),
        th("p99.9", true),
        th("last minute, 0.01 ms to 100 s")
      ],
      rows.map(([name, stats]) =>
        el(
          "tr",
          { key: name },
          el("th", { scope: "row" }, name),
          n(count(stats.requests)),
          failed(stats),
          n(count(stats.pending)),
          n(millis(quantile(stats.quantiles, 0.5))),
          n(millis(quantile(stats.quantiles, 0.9))),
          n(millis(quantile(stats.quantiles, 0.99))),
          n(millis(quantile(stats.quantiles, 0.999))),
          el("td", {}, distribution(stats.quantiles))
        )
      )
    )
  }

  const stateWords: Record<string, string> = { Open: "open", Busy: "busy", Closed: "down", Idle: "idle" }

  const endpoints = (one: Json): BrowserNode | undefined => {
    const balancer = one.stages.find(({ role }: Json) => role === "balancer")?.state
    if (!Array.isArray(balancer?.endpoints)) return undefined
    const order = ["Closed", "Busy", "Open", "Idle"]
    const columns: Record<string, (endpoint: Json) => number | string> = {
      endpoint: ({ endpoint }) => endpoint,
      state: ({ state }) => order.indexOf(state),
      load: ({ load }) => load,
      weight: ({ weight }) => weight,
      attempts: ({ calls }) => calls?.attempts ?? -1,
      failed: ({ calls }) => failuresOf(calls),
      p50: ({ calls }) => quantile(calls?.quantiles, 0.5) ?? -1,
      p99: ({ calls }) => quantile(calls?.quantiles, 0.99) ?? -1
    }
    const by = columns[sortBy] ?? columns["state"]!
    const rows = balancer.endpoints.toSorted((a: Json, b: Json) => {
      const [left, right] = [by(a), by(b)]
      const less = typeof left === "string" ? left.localeCompare(String(right)) : left - Number(right)
      return (descending ? -less : less) || a.endpoint.localeCompare(b.endpoint)
    })
    return el(
      "div",
      { key: "endpoints" },
      table(
        "Endpoints",
        [
          heading("endpoint", "endpoint", false),
          heading("state", "state", false),
          heading("load", "load", true),
          heading("weight", "weight", true),
          heading("attempts", "attempts", true),
          heading("failed", "failed", true),
          heading("p50", "p50", true),
          heading("p99", "p99", true),
          th("why")
        ],
        rows.map((endpoint: Json) =>
          el(
            "tr",
            { key: endpoint.endpoint },
            el("th", { scope: "row" }, endpoint.endpoint),
            el(
              "td",
              {},
              el("span", { class: `state ${endpoint.state}` }, stateWords[endpoint.state] ?? endpoint.state),
              endpoint.active === false && " outside the aperture"
            ),
            n(count(endpoint.load)),
            n(shown(endpoint.weight)),
            n(endpoint.calls === undefined ? "–" : count(endpoint.calls.attempts)),
            endpoint.calls === undefined ? n("–") : failed(endpoint.calls),
            n(millis(quantile(endpoint.calls?.quantiles, 0.5) ?? endpoint.latencyMillis)),
            n(millis(quantile(endpoint.calls?.quantiles, 0.99))),
            el("td", { class: "why" }, endpoint.fault ?? "")
          )
        )
      ),
      balancer.endpointsLeftOut > 0 &&
        el(
          "p",
          { class: "quiet" },
          `${count(balancer.endpointsLeftOut)} more are not shown: those that are well, and have the least load.`
        )
    )
  }

  const faults = (one: Json): BrowserNode =>
    el(
      "section",
      { key: "faults" },
      el("h3", {}, "Lately"),
      one.faults.length === 0
        ? el("p", { class: "quiet" }, "nothing went wrong")
        : el(
          "ol",
          { class: "faults" },
          ...one.faults.map((fault: Json) =>
            el(
              "li",
              {},
              el("time", { datetime: new Date(fault.at).toISOString() }, new Date(fault.at).toLocaleTimeString()),
              " ",
              fault.endpoint === undefined ? "" : el("strong", {}, fault.endpoint),
              ` ${fault.what}`,
              fault.cause !== undefined && el("span", { class: "why" }, `: ${fault.cause}`)
            )
          )
        )
    )

  /** What a stage shows of itself, but for what has a table of its own. */
  const facts = (state: Json): Child => {
    if (typeof state !== "object" || state === null) return state === undefined ? undefined : shown(state)
    const entries = Object.entries<Json>(state).filter(([name]) => name !== "endpoints" && name !== "methods")
    if (entries.length === 0) return undefined
    return el(
      "dl",
      { class: "facts" },
      ...entries.map(([name, value]) =>
        el(
          "div",
          { key: name },
          el("dt", {}, words(name)),
          el(
            "dd",
            {},
            typeof value === "object" && value !== null && !Array.isArray(value) ? facts(value) ?? "none" : shown(value)
          )
        )
      )
    )
  }

  /** The first few numbers of a stage that are not 0. */
  const atAGlance = (state: Json): string => {
    const numbers = Object.entries<Json>(state ?? {}).filter(([, value]) => typeof value === "number" && value !== 0)
    return numbers.slice(0, 5).map(([name, value], i) => `${i === 0 ? " · " : ", "}${words(name)} ${shown(value)}`)
      .join("")
  }

  const stage = (described: Json, i: number): BrowserNode => {
    const options = Object.entries<Json>(described.options)
    return el(
      "details",
      { class: "stage", key: `${i} ${described.role}` },
      el(
        "summary",
        {},
        el("strong", {}, words(described.role)),
        ` ${described.description}`,
        el("span", { class: "quiet" }, atAGlance(described.state))
      ),
      facts(described.state),
      options.length > 0 && table(
        `Options of the ${words(described.role)}`,
        [th("option"), th("in force"), th("from")],
        options.map(([name, option]) =>
          el(
            "tr",
            { key: name },
            el("th", { scope: "row" }, name),
            el("td", {}, shown(option.value)),
            el("td", {}, option.from === "given" ? el("strong", {}, "given") : "default")
          )
        )
      )
    )
  }

  const level = (one: Json): string => {
    const balancer = one.stages.find(({ role }: Json) => role === "balancer")?.state
    return balancer === undefined || balancer.size === 0
      ? ""
      : balancer.usable === 0
      ? "bad"
      : balancer.down > 0
      ? "warn"
      : "good"
  }

  const render = (): void => {
    const one = chosen()
    const list = (title: string, of: ReadonlyArray<Json>) =>
      of.length > 0 && el(
        "div",
        { key: title },
        el("h2", {}, title),
        el(
          "ul",
          {},
          ...of.map((each) =>
            el(
              "li",
              { key: keyOf(each) },
              el(
                "a",
                { href: hashOf(each), "aria-current": each === one ? "page" : undefined },
                el("span", { class: `dot ${level(each)}`, "aria-hidden": "true" }),
                each.id
              )
            )
          )
        )
      )
    morph(
      document.getElementById("nav")!,
      el(
        "nav",
        { id: "nav", "aria-label": "clients and servers" },
        list("Clients", latest?.clients ?? []),
        list("Servers", latest?.servers ?? [])
      )
    )
    morph(
      document.getElementById("main")!,
      el(
        "main",
        { id: "main", tabindex: "-1" },
        ...(one === undefined
          ? [el("p", { class: "quiet" }, latest === undefined ? "Loading." : "No client or server is there yet.")]
          : [
            el("h2", { key: "title" }, `${one.kind} ${one.id}`),
            tiles(one),
            ...(history.has(keyOf(one)) ? [graph(history.get(keyOf(one))!)] : []),
            methods(one),
            endpoints(one),
            faults(one),
            el("section", { key: "stack" }, el("h3", {}, "Stack"), ...one.stages.map(stage))
          ])
      )
    )
    const status = document.getElementById("status")!
    status.className = failure === undefined ? "" : "bad"
    status.textContent = failure ??
      (latest === undefined ? "" : `${paused ? "paused at" : "as of"} ${new Date(latest.at).toLocaleTimeString()}`)
    document.title = one === undefined ? "Scales" : `${one.id} – Scales`
  }

  /** Whatever cannot be shown is said, and the next state is shown again. */
  const show = (): void => {
    try {
      render()
    } catch (error) {
      document.getElementById("status")!.textContent = `this cannot be shown: ${String(error)}`
    }
  }

  const refresh = async (): Promise<void> => {
    try {
      const response = await fetch("/stacks.json", { signal: AbortSignal.timeout(10_000) })
      if (!response.ok) throw new Error(`it answered ${response.status}`)
      latest = await response.json()
      failure = undefined
      note()
    } catch (error) {
      failure = `the program does not answer: ${error instanceof Error ? error.message : String(error)}`
    }
    show()
  }

  const loop = async (): Promise<void> => {
    if (!paused && !document.hidden) await refresh()
    setTimeout(() => void loop(), intervalMillis)
  }

  const pause = document.getElementById("pause")!
  pause.addEventListener("click", () => {
    paused = !paused
    pause.setAttribute("aria-pressed", String(paused))
    if (!paused) void refresh()
    else show()
  })
  document.addEventListener("click", (event) => {
    const button = (event.target as BrowserElement).closest("[data-sort]")
    if (button === null) return
    const column = button.getAttribute("data-sort")!
    descending = column === sortBy ? !descending : !["endpoint", "state"].includes(column)
    sortBy = column
    show()
  })
  addEventListener("hashchange", () => {
    show()
    document.getElementById("main")!.focus()
  })
  void loop()
}
