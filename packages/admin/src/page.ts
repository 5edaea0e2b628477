/** The page: one document with its style and its script in it, which asks this server alone for data. */
import { createHash } from "node:crypto"
import { app } from "./app.ts"
import { style } from "./style.ts"

const script = `(${app.toString()})()`

const sourceOf = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`

/** Nothing but the style and the script of the page, and data from where it came; it stands in no frame. */
export const securityPolicy = [
  "default-src 'none'",
  `style-src ${sourceOf(style)}`,
  `script-src ${sourceOf(script)}`,
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'"
].join("; ")

/** HTML. */
export const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>Scales</title>
<style>${style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to what is shown</a>
<header>
<h1>Scales</h1>
<p id="status" role="status"></p>
<button id="pause" type="button" aria-pressed="false">Pause</button>
<a href="/stacks.json">JSON</a>
<a href="/stacks.txt">text</a>
<a href="/metrics">metrics</a>
</header>
<nav id="nav" aria-label="clients and servers"></nav>
<main id="main" tabindex="-1"></main>
<noscript>This page needs JavaScript; <a href="/stacks.txt">/stacks.txt</a> does not.</noscript>
<script>${script}</script>
</body>
</html>
`
