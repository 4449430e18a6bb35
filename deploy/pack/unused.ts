// What packages of the bundle `require` and the agent never comes to: 0.9 MB of text that every daemon would keep. The
// OpenTelemetry SDK brings an exporter for each protocol and a reader of configuration files; the agent gives it its reader
// and its exporter. grpc-js brings the loader of .proto files for channelz and ORCA, which the agent does not serve.
// A member of what was left out is undefined: the self-metrics of the packed daemon are waited for by a test.
import type { Plugin } from "rolldown";

const ABSENT = "\0unused";

/** By the package that asks for it: what it need not get. */
const UNUSED: readonly (readonly [asking: RegExp, asked: RegExp])[] = [
  [
    /[/\\]@opentelemetry[/\\]sdk-node[/\\]/,
    /^@opentelemetry\/(configuration|exporter-(logs|trace)-.*|exporter-metrics-otlp-(http|proto)|exporter-(prometheus|zipkin)|propagator-b3)$|\/start\.cjs$/,
  ],
  [/[/\\]@grpc[/\\]grpc-js[/\\]/, /^@grpc\/proto-loader$/],
];

/** The rolldown plugin. */
export function unusedTelemetry(): Plugin {
  return {
    name: "unused-telemetry",
    resolveId: (source, importer = "") =>
      UNUSED.some(([asking, asked]) => asking.test(importer) && asked.test(source)) ? ABSENT : null,
    load: (id) => (id === ABSENT ? { code: "export default {};", moduleSideEffects: false } : null),
  };
}
