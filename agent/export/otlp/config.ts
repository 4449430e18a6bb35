// The config section `export.otlp` and the endpoints it accepts. The OTEL_EXPORTER_OTLP_* variables are read into the
// same keys by config/otel-environment.ts. OTLP over gRPC only: a Collector listens for it on port 4317.
import { z } from "zod";
import { formatHostPort, isFault, parseHostPort, parseUnixSocket } from "../../platform/address.ts";
import type { GrpcTarget } from "../../platform/grpc.ts";
import { headerTexts } from "../../platform/headers.ts";
import { callTls } from "../../platform/tls.ts";

const HTTP_PORT = 4318;

const endpoint = z.string().superRefine((text, context) => {
  if (text === "") return;
  const parsed = parseEndpoint(text);
  if ("problem" in parsed) {
    context.addIssue({ code: "custom", message: parsed.problem, params: { hint: parsed.hint }, input: text });
  }
});

const destination = {
  endpoint: endpoint
    .default("")
    .describe('OTLP/gRPC, for example "http://localhost:4317" or "https://otel:4317"; "" switches it off.'),
  headers: headerTexts.default({}).describe("Metadata sent with each request."),
  headersFile: z
    .string()
    .min(1)
    .optional()
    .describe("File of further metadata, a `name: value` per line, read again for each request."),
  bearerFile: z.string().min(1).optional().describe("File with a bearer token, read again for each request."),
  tls: callTls
    .prefault({})
    .describe("Files of https:// endpoints; a changed file is taken up with the next request."),
  audit: z
    .boolean()
    .default(false)
    .describe("Whether the audit record goes there too, as OTLP logs; every entry at least once, in order."),
  compression: z.enum(["none", "gzip"]).default("gzip"),
  timeoutMs: z.number().min(100).max(120_000).default(10_000).describe("Deadline of one request."),
  backlog: z
    .enum(["strict", "parallel", "skip"])
    .default("strict")
    .describe(
      "After an outage: strict = oldest first; parallel = live beside it, for destinations that take out-of-order " +
        "data; skip = live only.",
    ),
};

/** The section `export.otlp`: one destination, and more of the same kind under `also`. */
export const otlpConfig = z.strictObject({
  ...destination,
  also: z
    .array(z.strictObject({ name: z.string().regex(/^[a-z0-9-]{1,40}$/), ...destination }))
    .max(8)
    .default([])
    .refine(
      (list) =>
        new Set(list.map((one) => one.name)).size === list.length && !list.some((one) => one.name === "main"),
      {
        error: 'names must differ from each other and from "main"',
      },
    )
    .describe("Further destinations, each with its own position in the spool."),
  spoolBytesMax: z
    .number()
    .int()
    .min(1_000_000)
    .default(1_000_000_000)
    .describe("Disk the backlog may take; beyond it the oldest telemetry is dropped and recorded."),
  spoolHoursMax: z
    .number()
    .min(1)
    .max(24 * 35)
    .default(24 * 7)
    .describe("Oldest telemetry still worth sending."),
});

/** `export.otlp` as configured. */
export type OtlpConfig = z.output<typeof otlpConfig>;

/** One destination with its endpoint resolved. */
export interface Destination {
  readonly name: string;
  readonly target: GrpcTarget;
  readonly gzip: boolean;
  readonly timeoutMs: number;
  readonly backlog: "strict" | "parallel" | "skip";
  /** The audit record goes there too. */
  readonly audit?: boolean;
}

/** Every destination that is switched on, the one without a name as `main`. */
export function destinations(config: OtlpConfig): readonly Destination[] {
  return [{ name: "main", ...config }, ...config.also].flatMap((one) => {
    const parsed = one.endpoint === "" ? undefined : parseEndpoint(one.endpoint);
    if (parsed === undefined || "problem" in parsed) return [];
    const { caFile, certFile, keyFile } = one.tls;
    const files = {
      ...(caFile === undefined ? {} : { caFile }),
      ...(certFile === undefined ? {} : { certFile }),
      ...(keyFile === undefined ? {} : { keyFile }),
    };
    const tls = !parsed.tls ? {} : { tls: Object.keys(files).length === 0 ? (true as const) : files };
    const secrets = {
      ...(one.bearerFile === undefined ? {} : { bearerFile: one.bearerFile }),
      ...(one.headersFile === undefined ? {} : { headersFile: one.headersFile }),
    };
    return {
      name: one.name,
      target: { target: parsed.target, headers: one.headers, ...tls, ...secrets },
      gzip: one.compression === "gzip",
      timeoutMs: one.timeoutMs,
      backlog: one.backlog,
      ...(one.audit ? { audit: true } : {}),
    };
  });
}

/** An endpoint that was read, or why it is none. */
export type Endpoint =
  | { readonly target: string; readonly tls: boolean }
  | { readonly problem: string; readonly hint: string };

/**
 * What an endpoint means: `http://` plaintext, `https://` TLS, no scheme TLS (the specification's default), `unix:`
 * plaintext. An OTLP/HTTP address is refused: its port or path would only fail at the first send.
 * Exported for its test: endpoints of every form.
 */
export function parseEndpoint(text: string): Endpoint {
  if (parseUnixSocket(text) !== undefined) return { target: text, tls: false };
  const [, scheme = "", rest = ""] = /^(?:([a-z][a-z0-9+.-]*):\/\/)?(.*)$/is.exec(text) ?? [];
  const kind = scheme.toLowerCase();
  if (kind !== "" && kind !== "http" && kind !== "https") {
    return {
      problem: "an endpoint with http:// or https://",
      hint: 'for example "http://localhost:4317"',
    };
  }
  const [authority = "", ...path] = rest.split("/");
  const defaultPort = kind === "" ? 4317 : kind === "https" ? 443 : 80;
  const place = parseHostPort(authority, { defaultPort, examplePort: 4317 });
  if (isFault(place)) return { problem: place.wanted, hint: place.hint };
  if (place.port === HTTP_PORT || path.join("/") !== "") {
    return {
      problem: "an OTLP/gRPC endpoint, not one of OTLP/HTTP",
      hint: `tokenwatt speaks OTLP over gRPC, a Collector's port 4317: "${kind || "http"}://${formatHostPort({ ...place, port: 4317 })}"`,
    };
  }
  return { target: formatHostPort(place), tls: kind !== "http" };
}
