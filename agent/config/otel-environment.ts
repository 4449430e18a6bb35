// The OTEL_* variables of OpenTelemetry's specification (SDK configuration and OTLP exporter, 1.5x), as a layer between
// the file and TOKENWATT_*. The _METRICS_ form of a name wins over the general one; empty means not set.
// Left out: everything about traces and logs, which tokenwatt does not send.
import type { Override, Overrides } from "./environment.ts";
import type { ConfigPath } from "./paths.ts";
import type { Problem } from "./problems.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const FILES: readonly (readonly [string, ConfigPath])[] = [
  ["CERTIFICATE", ["export", "otlp", "tls", "caFile"]],
  ["CLIENT_CERTIFICATE", ["export", "otlp", "tls", "certFile"]],
  ["CLIENT_KEY", ["export", "otlp", "tls", "keyFile"]],
];

/** The overrides in OTEL_* variables; what cannot be honoured is a problem. */
export function readOtelEnvironment(env: Environment): Overrides {
  const overrides: Override[] = [];
  const problems: Problem[] = [];
  const set = (path: ConfigPath, value: unknown, origin: string): void => {
    overrides.push({ path, value, origin });
  };
  exporter(env, set, problems);
  const interval = lookUp(env, "OTEL_METRIC_EXPORT_INTERVAL");
  if (interval !== undefined) set(["rates", "exportMs"], numeric(interval.text), interval.name);
  resource(env, set, problems);
  if (lookUp(env, "OTEL_METRICS_EXPORTER")?.text === "none") {
    set(["export", "otlp", "endpoint"], "", "OTEL_METRICS_EXPORTER");
  }
  if (lookUp(env, "OTEL_SDK_DISABLED")?.text.toLowerCase() === "true") {
    set(["export", "otlp", "endpoint"], "", "OTEL_SDK_DISABLED");
  }
  return { overrides, problems };
}

type Set = (path: ConfigPath, value: unknown, origin: string) => void;

function exporter(env: Environment, set: Set, problems: Problem[]): void {
  const option = (key: string): Found | undefined =>
    lookUp(env, `OTEL_EXPORTER_OTLP_METRICS_${key}`) ?? lookUp(env, `OTEL_EXPORTER_OTLP_${key}`);
  const endpoint = option("ENDPOINT");
  if (endpoint !== undefined) {
    const plain = option("INSECURE")?.text.toLowerCase() === "true" && !endpoint.text.includes("://");
    set(["export", "otlp", "endpoint"], plain ? `http://${endpoint.text}` : endpoint.text, endpoint.name);
  }
  const protocol = option("PROTOCOL");
  if (protocol !== undefined && protocol.text !== "grpc" && endpoint !== undefined) {
    problems.push({
      path: "export.otlp",
      message: `Cannot use ${protocol.name}: wanted "grpc", got ${JSON.stringify(protocol.text)}`,
      at: protocol.name,
      hint: "tokenwatt speaks OTLP over gRPC, a Collector's port 4317: set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=grpc and its endpoint",
    });
  }
  const headers = option("HEADERS");
  if (headers !== undefined) {
    set(["export", "otlp", "headers"], pairs(headers, problems), headers.name);
  }
  const timeout = option("TIMEOUT");
  if (timeout !== undefined) set(["export", "otlp", "timeoutMs"], numeric(timeout.text), timeout.name);
  const compression = option("COMPRESSION");
  if (compression !== undefined) set(["export", "otlp", "compression"], compression.text, compression.name);
  for (const [key, path] of FILES) {
    const file = option(key);
    if (file !== undefined) set(path, file.text, file.name);
  }
  const temporality = lookUp(env, "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE");
  if (temporality !== undefined && temporality.text.toLowerCase() !== "cumulative") {
    problems.push({
      path: "export.otlp",
      message: `Cannot use ${temporality.name}: wanted "cumulative", got ${JSON.stringify(temporality.text)}`,
      at: temporality.name,
      hint: "totals must survive a lost message; convert behind the Collector with its cumulativetodelta processor",
    });
  }
}

function resource(env: Environment, set: Set, problems: Problem[]): void {
  const attributes = lookUp(env, "OTEL_RESOURCE_ATTRIBUTES");
  if (attributes !== undefined) {
    for (const [key, value] of Object.entries(pairs(attributes, problems))) {
      set(["resource", key], value, attributes.name);
    }
  }
  const name = lookUp(env, "OTEL_SERVICE_NAME");
  if (name !== undefined) set(["resource", "service.name"], name.text, name.name);
}

interface Found {
  readonly name: string;
  readonly text: string;
}

function lookUp(env: Environment, name: string): Found | undefined {
  const text = env[name]?.trim();
  return text === undefined || text === "" ? undefined : { name, text };
}

function numeric(text: string): number | string {
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

/** `a=1,b=2`, keys and values percent-encoded. The text is never quoted in a problem: headers hold credentials. */
function pairs({ name, text }: Found, problems: Problem[]): Record<string, string> {
  const found: [string, string][] = [];
  for (const [index, part] of text.split(",").entries()) {
    if (part.trim() === "") continue;
    const split = part.indexOf("=");
    try {
      if (split < 1) throw new Error("no equals sign");
      found.push([
        decodeURIComponent(part.slice(0, split).trim()),
        decodeURIComponent(part.slice(split + 1).trim()),
      ]);
    } catch {
      problems.push({
        path: "",
        message: `Cannot read part ${index + 1} of ${name} as key=value`,
        at: name,
        hint: "pairs are separated by commas; percent-encode commas and percent signs inside a value",
      });
    }
  }
  return Object.fromEntries(found);
}
