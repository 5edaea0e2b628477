// The API reference of the published packages: their doc comments as markdown, written to `api/`. `npm run docs` runs it. It fails,
// and writes nothing, when an exported name or a property of an options interface has no doc comment.
//
// typedoc reads TypeScript with the compiler's own interface, which ends with TypeScript 6: so this package has a compiler of its own.
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Application, Comment, Converter, ReflectionKind } from "typedoc"

const here = dirname(fileURLToPath(import.meta.url))
const packages = dirname(here)

const entryPoints = [
  "admin/src/index.ts",
  "core/src/index.ts",
  "core/src/options.ts",
  "core/src/socket/index.ts",
  "core/src/testing/index.ts",
  "http/src/index.ts",
  "mux/src/index.ts",
  "mux/src/testing/index.ts",
  "thrift/src/index.ts",
  "thrifthttp/src/index.ts",
  "thriftmux/src/index.ts",
  "zookeeper/src/index.ts",
  "zookeeper/src/testing/index.ts"
]

const app = await Application.bootstrapWithPlugins({
  name: "Scales for TypeScript",
  plugin: ["typedoc-plugin-markdown"],
  tsconfig: join(here, "tsconfig.json"),
  basePath: packages,
  entryPoints: entryPoints.map((path) => join(packages, path)),
  out: join(here, "api"),
  readme: "none",
  disableSources: true,
  excludeInternal: true,
  excludePrivate: true,
  // What classes get from Effect is documented there.
  excludeExternals: true,
  // The repository's own compiler has checked the types.
  skipErrorChecking: true,
  validation: { notExported: false },
  logLevel: "Warn"
})

// A file's first comment is what its module or namespace is; typedoc would take it for its first import's.
app.converter.on(Converter.EVENT_RESOLVE_BEGIN, (context) => {
  for (const reflection of context.project.getReflectionsByKind(ReflectionKind.Module | ReflectionKind.Namespace)) {
    // By its symbol: a module is a file, and a namespace here is `export * as Name` of one.
    const file = context.getSymbolFromReflection(reflection)?.declarations?.find((node) => node.fileName !== undefined)
    const text = /^\/\*\*(.*?)\*\//s.exec(readFileSync(file?.fileName ?? "", "utf8"))?.[1]?.replace(/^\s*\* ?/gm, "")
      .trim()
    if (text !== undefined) reflection.comment = new Comment([{ kind: "text", text }])
    // As it is imported, not where it lies.
    reflection.name = reflection.name.replace(/^(\w+)\/src/, "@scales-rpc/$1")
  }
})

/** Every exported name from `parent` down, the properties of options among them, and whether it has a doc comment. */
const names = (parent) =>
  (parent.children ?? []).flatMap((child) => {
    // A function's comment stands at its signatures.
    const signatures = [...(child.signatures ?? []), ...(child.type?.declaration?.signatures ?? [])]
    const documented = child.isReference() || [child, ...signatures].some((reflection) => reflection.hasComment())
    const further = child.kindOf(ReflectionKind.Module | ReflectionKind.Namespace) ||
      (child.kindOf(ReflectionKind.Interface) && child.name.endsWith("Options"))
    return [{ name: child.getFullName(), documented }, ...(further ? names(child) : [])]
  })

const project = await app.convert()
if (project === undefined) process.exit(1)
const exported = names(project)
const missing = exported.filter(({ documented }) => !documented)
for (const { name } of missing) console.error(`no doc comment: ${name}`)
if (missing.length > 0) process.exit(1)
await app.generateOutputs(project)
if (app.logger.hasErrors() || app.logger.hasWarnings()) process.exit(1)
console.log(`${exported.length} exported names in packages/reference/api`)
