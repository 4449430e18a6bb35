// `import ... from "node:http"` costs 14 MB and 60 ms: Node copies every export into the module's namespace, which sets off
// getters that load fetch and WebSocket (undici), for tls every root certificate, and the like for util, process and fs. In
// the bundle these builtins come through process.getBuiltinModule(), which runs no getter. An import of what only a getter
// has fails the build.
import type { Plugin } from "rolldown";

const COSTLY = ["http", "tls", "util", "process", "fs"] as const;
const PREFIX = "\0builtin:";

/** The rolldown plugin. */
export function lazyBuiltins(): Plugin {
  return {
    name: "lazy-builtins",
    resolveId: (source, _importer, { kind }) => {
      const name = source.replace(/^node:/, "");
      return kind === "import-statement" && COSTLY.some((one) => one === name) ? `${PREFIX}${name}` : null;
    },
    load: (id) =>
      id.startsWith(PREFIX)
        ? { code: builtinModule(id.slice(PREFIX.length)), moduleSideEffects: false }
        : null,
  };
}

/** A module that exports what the builtin has without a getter, as this Node knows it. */
export function builtinModule(name: string): string {
  const builtin = process.getBuiltinModule(`node:${name}`) as object;
  const names = Object.entries(Object.getOwnPropertyDescriptors(builtin))
    .filter(([key, { get }]) => get === undefined && /^[A-Za-z_$][\w$]*$/.test(key) && key !== "default")
    .map(([key]) => key)
    .sort();
  return [
    `const builtin = process.getBuiltinModule("node:${name}");`,
    "export default builtin;",
    ...names.map(
      (key) =>
        `const own_${key} = /* @__PURE__ */ (() => builtin.${key})();\nexport { own_${key} as ${key} };`,
    ),
  ].join("\n");
}
