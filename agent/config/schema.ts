// Every section of the configuration that is not a source's own; gpu/ and servers/ bring theirs through the registries.
// Defaults of METERING.md 2, 4, 5 and 11: untouched they fit one host.
import { z } from "zod";
import { otlpConfig } from "../export/otlp/config.ts";
import { hostConfig, kubeletConfig } from "../host/config.ts";
import { podResourcesSocket } from "../host/kubelet/pod-resources.ts";
import { podsSocket } from "../host/kubelet/pods.ts";
import { addressText, parseHostPort } from "../platform/address.ts";
import { listenTls } from "../platform/tls.ts";
import type { GpuBackend, ServerType } from "../source.ts";

const LATENCIES = [
  "time_to_first_token",
  "time_per_output_token",
  "inter_token_latency",
  "request_duration",
  "queue_time",
] as const;

const milliseconds = (least: number, most: number): z.ZodNumber => z.number().min(least).max(most);

/** `host:port` to listen on; an empty text switches the endpoint off, port 0 takes any free one. */
const listenAddress = addressText((text) =>
  text === "" ? undefined : parseHostPort(text, { anyPort: true, examplePort: 9464 }),
);

const common = {
  stateDir: z.string().min(1).describe("Folder for what must survive a restart."),
  logLevel: z.enum(["debug", "info", "warn", "error"]).default("info"),
  rates: z
    .strictObject({
      gpuMs: milliseconds(50, 60_000).default(1000).describe("Driver rings, energy, memory, processes."),
      scrapeMs: milliseconds(100, 300_000).default(5000).describe("Prometheus text of each server."),
      scrapeSingleMs: milliseconds(100, 300_000)
        .default(1000)
        .describe("The same while there is only one server."),
      tickMs: milliseconds(100, 60_000).default(1000).describe("Length of an interval."),
      exportMs: milliseconds(1000, 300_000).default(10_000).describe("Commit and export."),
      inventoryMs: milliseconds(10_000, 86_400_000)
        .default(600_000)
        .describe("Search for GPUs and host facts again."),
    })
    .prefault({}),
  correlate: z
    .strictObject({
      stallAfterSeconds: z
        .number()
        .positive()
        .max(3600)
        .default(60)
        .describe("Work without a token is stalled after."),
      settleMsMax: milliseconds(1000, 120_000).default(30_000).describe("Longest wait for a late reading."),
      shares: z
        .record(z.string(), z.number().positive())
        .default({})
        .describe("Server id to its share of a GPU it does not have alone; equal where absent."),
      weights: z
        .strictObject({
          output: z.number().min(0).default(2.5),
          input: z.number().min(0).default(1),
          cached: z.number().min(0).default(0.1),
        })
        .prefault({})
        .describe("Cost of a token by kind where models or tenants share one server."),
    })
    .prefault({}),
  series: z
    .strictObject({
      max: z.number().int().min(100).max(1_000_000).default(20_000).describe("Series this host may export."),
      tenantsMax: z.number().int().min(0).max(1000).default(100),
      latencyTenants: z
        .array(z.string().min(1))
        .default([])
        .describe(
          "Tenants whose latencies at gateways are exported under their name, `*` for all: a histogram is a series for each " +
            "of its bounds. Others share one by endpoint and model; the ledger has every tenant's.",
        ),
      idleSeconds: z
        .number()
        .min(120)
        .max(35 * 86_400)
        .default(86_400)
        .describe(
          "Tenants, endpoints, models and prices that were not used for so long, and servers that are gone, leave /metrics " +
            "and OTLP; they come back under their old totals.",
        ),
    })
    .prefault({}),
  host: hostConfig.prefault({}),
  discovery: z
    .strictObject({
      enabled: z
        .boolean()
        .default(true)
        .describe("Look for servers behind the GPU processes, on loopback only."),
      kubernetes: z
        .enum(["auto", "annotations", "off"])
        .default("auto")
        .describe(
          "Servers in pods of this node, as the kubelet lists them. auto: those annotations tokenwatt.io/* name, and " +
            "in containers that hold GPUs those at the TCP ports they declare; annotations: the first alone.",
        ),
      trustedNamespaces: z
        .array(z.string().min(1))
        .default([])
        .describe(
          "Namespaces whose pods may name by annotation what others are billed by: gateways, tenant labels, and ids as they " +
            "like. Of all others annotations name engines, under ids that begin with their own namespace.",
        ),
      podsSocket: z.string().min(1).default(podsSocket).describe("The kubelet's Pods API."),
      podResourcesSocket: z
        .string()
        .min(1)
        .default(podResourcesSocket)
        .describe("The kubelet's pod-resources API: which pod was given which GPU."),
      kubelet: kubeletConfig.optional(),
    })
    .prefault({}),
  capacity: z
    .record(z.string(), z.number().positive())
    .default({})
    .describe(
      "Server id to the tokens per GPU-hour it can sustain; learned or from the price file where absent.",
    ),
  objectives: z
    .array(
      z.strictObject({
        name: z.string().min(1),
        seconds: z.partialRecord(z.enum(LATENCIES), z.number().positive()),
      }),
    )
    .default([])
    .describe(
      "Service level objectives: a request meets one when each named latency is at most this many seconds.",
    ),
  aliases: z
    .record(z.string(), z.string().min(1))
    .default({})
    .describe("Model name as requested to model as served."),
  prices: z.string().min(1).optional().describe("File with prices, relative to this file."),
  policy: z.string().min(1).optional().describe("File with quotas, relative to this file."),
  resource: z
    .record(z.string(), z.union([z.string(), z.number(), z.boolean()]))
    .default({})
    .describe("OTLP resource attributes, for example deployment.environment.name."),
  export: z
    .strictObject({
      otlp: otlpConfig.prefault({}),
      prometheus: z
        .strictObject({
          listen: listenAddress.default("127.0.0.1:9464"),
          tls: listenTls
            .optional()
            .describe(
              "Serve /metrics and /-/ over TLS; replaced files are taken up with the next connection.",
            ),
          tenants: z
            .boolean()
            .default(true)
            .describe(
              "Whether /metrics, the page and `tokenwatt top` show tenants; OTLP and the ledger have them always.",
            ),
          page: z
            .boolean()
            .default(true)
            .describe("Whether / answers a browser with a page; /-/view and the text stay."),
        })
        .prefault({}),
    })
    .prefault({}),
};

const commonSchema = z.strictObject(common);

/** A configuration with every default filled in. Sections of sources have the type their schema gives them. */
export interface Config extends z.output<typeof commonSchema> {
  /** `auto` takes the first backend that can work here, in the registry's order. */
  readonly gpu: { readonly backend: string } & Readonly<Record<string, unknown>>;
  /** Entries by server type. */
  readonly servers: Readonly<Record<string, readonly unknown[]>>;
}

/** The sources a configuration may name. */
export interface Sources {
  readonly gpuBackends: readonly GpuBackend[];
  readonly serverTypes: readonly ServerType[];
}

/** The schema of a whole configuration file, composed with the sections of the sources. */
export function configSchema(sources: Sources, stateDir: string): z.ZodType<Config> {
  const backends = sources.gpuBackends.map((backend) => backend.name);
  const gpu = z.strictObject({
    backend: z.enum(["auto", ...backends]).default("auto"),
    ...Object.fromEntries(sources.gpuBackends.map(({ name, config }) => [name, config.prefault({})])),
  });
  const servers = z.strictObject(
    Object.fromEntries(sources.serverTypes.map(({ name, config }) => [name, z.array(config).default([])])),
  );
  const schema = z.strictObject({
    stateDir: common.stateDir.default(stateDir),
    logLevel: common.logLevel,
    gpu: gpu.prefault({}),
    servers: servers.prefault({}),
    export: common.export,
    rates: common.rates,
    correlate: common.correlate,
    series: common.series,
    host: common.host,
    discovery: common.discovery,
    capacity: common.capacity,
    objectives: common.objectives,
    aliases: common.aliases,
    prices: common.prices,
    policy: common.policy,
    resource: common.resource,
  });
  return schema as unknown as z.ZodType<Config>;
}
