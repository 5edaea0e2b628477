/** How the page looks, in a light and a dark scheme; whichever the browser asks for. */
export const style = `
:root {
  color-scheme: light dark;
  --text: light-dark(#1b1f24, #e6e8ea); --quiet: light-dark(#5a636d, #9aa4ae); --page: light-dark(#ffffff, #14171a);
  --panel: light-dark(#f5f6f8, #1d2125); --line: light-dark(#d5dae0, #343a41); --link: light-dark(#0b57b4, #7db4ff);
  --good: light-dark(#1a7032, #63c57c); --warn: light-dark(#8a5a00, #e5ad46); --bad: light-dark(#b3211b, #ff8a80);
}
* { box-sizing: border-box }
body { margin: 0; font: 14px/1.45 system-ui, sans-serif; color: var(--text); background: var(--page);
  display: grid; grid-template: auto 1fr / minmax(11rem, 15rem) minmax(0, 1fr); min-height: 100vh }
header { grid-column: 1 / -1; display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: baseline; padding: .6rem 1rem; border-bottom: 1px solid var(--line) }
h1 { font-size: 1.05rem; margin: 0 } h2 { font-size: 1rem; margin: .2rem 0 .6rem } h3 { font-size: .95rem; margin: 1.4rem 0 .4rem }
header p { margin: 0; flex: 1; color: var(--quiet) } header p.bad { color: var(--bad); font-weight: 600 }
header a, nav a { color: var(--link) }
nav { padding: .8rem; border-right: 1px solid var(--line); background: var(--panel) }
nav ul { list-style: none; margin: 0 0 1rem; padding: 0 } nav a { display: block; padding: .25rem .5rem; border-radius: 4px; text-decoration: none; overflow-wrap: anywhere }
nav a[aria-current] { background: var(--page); font-weight: 600; outline: 1px solid var(--line) }
main { padding: .8rem 1.2rem 3rem; min-width: 0 } main:focus { outline: none }
:focus-visible { outline: 2px solid var(--link); outline-offset: 1px }
.skip { position: absolute; left: -100vw } .skip:focus { left: .5rem; top: .5rem; background: var(--page); padding: .3rem .6rem; z-index: 1 }
button { font: inherit; color: inherit; background: var(--panel); border: 1px solid var(--line); border-radius: 4px; padding: .15rem .6rem; cursor: pointer }
button[aria-pressed=true] { background: var(--warn); color: var(--page) }
.dot { display: inline-block; width: .6rem; height: .6rem; border-radius: 50%; background: var(--line); margin-right: .45rem }
.dot.good { background: var(--good) } .dot.warn { background: var(--warn) } .dot.bad { background: var(--bad) }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: 0 0 1rem }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .45rem .8rem; min-width: 8rem }
.tile dt { color: var(--quiet); font-size: .8rem } .tile dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums }
.tile small { color: var(--quiet) } .tile.good dd { color: var(--good) } .tile.warn dd { color: var(--warn) } .tile.bad dd { color: var(--bad) }
.graph { margin: 0 0 1rem } .graph svg { width: 100%; height: 72px; background: var(--panel); border: 1px solid var(--line); border-radius: 6px }
.graph figcaption { color: var(--quiet); font-size: .8rem } polyline { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke }
polyline.calls { stroke: var(--link) } polyline.failures { stroke: var(--bad) }
.key.calls { color: var(--link) } .key.failures { color: var(--bad) } .key { font-weight: 600 }
.scroll { overflow-x: auto; margin-bottom: 1rem }
table { border-collapse: collapse; width: 100% } caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap }
thead th { color: var(--quiet); font-weight: 600; font-size: .85rem } tbody th { font-weight: 500 }
th button { background: none; border: 0; padding: 0; font-weight: 600 }
td small { display: block; color: var(--quiet); white-space: nowrap }
.n { text-align: right; font-variant-numeric: tabular-nums } td.why, .why { white-space: normal; overflow-wrap: anywhere; color: var(--quiet) }
.state { font-weight: 600 } .state.Open { color: var(--good) } .state.Busy { color: var(--warn) } .state.Closed { color: var(--bad) } .state.Idle { color: var(--quiet) }
.quiet { color: var(--quiet) }
.distribution { width: 200px; height: 14px } .distribution rect { fill: var(--line) } .distribution circle { fill: var(--link); fill-opacity: .75 } .distribution .tick { stroke: var(--line) }
.faults { margin: 0; padding-left: 0; list-style: none } .faults li { padding: .15rem 0 } time { color: var(--quiet); font-variant-numeric: tabular-nums }
.stage { border: 1px solid var(--line); border-radius: 6px; margin-bottom: .4rem; padding: .35rem .7rem; background: var(--panel) }
.stage summary { cursor: pointer } .stage[open] summary { margin-bottom: .5rem }
.facts { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin: .2rem 0 .6rem } .facts dt { color: var(--quiet); font-size: .8rem } .facts dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
@media (max-width: 46rem) { body { grid-template: auto auto 1fr / minmax(0, 1fr) } nav { border-right: 0; border-bottom: 1px solid var(--line) } }
`
