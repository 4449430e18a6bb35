// `/-/status`: what the agent found, chose and why, as one JSON object for people and doctor.
// No secrets: addresses of servers, placement and health only. Its keys are snake_case, but for those that are data.

import type { Correlator } from "../correlate/correlator.ts";
import type { Clock } from "../platform/clock.ts";
import { programVersion } from "../platform/version.ts";
import type { Exports } from "./export-beat.ts";
import type { FlightRecorder } from "./flight-recorder.ts";
import type { Pipeline } from "./pipeline.ts";
import type { BackendTried } from "./sources.ts";

/** What the status is read from. */
export interface StatusParts {
  readonly clock: Clock;
  readonly pipeline: Pipeline;
  readonly tried: readonly BackendTried[];
  readonly released: boolean;
  readonly exports: Exports;
  readonly correlator: Correlator;
  readonly flight: FlightRecorder;
  readonly host: Readonly<Record<string, unknown>>;
}

/** Objects of the status whose keys are data and stay as they are; what is in them has names of ours again. */
const KEYED_BY_DATA: ReadonlySet<string> = new Set([
  // UUIDs of GPUs.
  "gpu_backend.trouble",
  "gpu_backend.unsupported",
  "correlation.energy",
  // Port numbers; `namespace/pod`.
  "host.discovery.ports",
  "host.kubernetes.pods",
  // `gpu:<uuid>`, `server:<id>`.
  "sources",
  // gRPC codes.
  "export.destinations[].dropped_points",
]);

/** The object `/-/status` answers with. */
export function agentStatus(parts: StatusParts): Readonly<Record<string, unknown>> {
  return snakeCased(statusOf(parts), KEYED_BY_DATA) as Readonly<Record<string, unknown>>;
}

function statusOf(parts: StatusParts): Readonly<Record<string, unknown>> {
  const { clock, pipeline, exports } = parts;
  const { gpu } = pipeline;
  const now = clock.now();
  const ago = (at: number | undefined): number | null =>
    at === undefined ? null : Math.round((now - at) / 1e6) / 1e3;
  return {
    version: programVersion(),
    time: new Date(Number(clock.unixNanos(now) / 1_000_000n)).toISOString(),
    uptime_seconds: Math.round(now / 1e6) / 1e3,
    pid: process.pid,
    degraded: parts.flight.degraded ?? null,
    settled_seconds_ago: ago(pipeline.settledUntil),
    gpu_backend: {
      chosen: gpu?.backend ?? null,
      tried: parts.tried,
      released: parts.released,
      ...gpu?.status(),
    },
    gpus: [...pipeline.intake.gpus.values()],
    servers: [...pipeline.intake.servers.values()].map((info) => ({
      ...info,
      problems: pipeline.intake.lastTokenSamples.get(info.id)?.errors ?? [],
    })),
    correlation: parts.correlator.status(),
    host: parts.host,
    sources: Object.fromEntries(
      [...pipeline.intake.health.entries()].map(([source, health]) => [
        source,
        {
          ok: health.ok,
          reason: health.reason ?? null,
          last_read_seconds_ago: ago(health.lastReadAt),
          failing_for_seconds: ago(health.failingSince),
          reads: health.reads,
          failures: health.failures,
          last_read_ms: Math.round(health.tookNanos / 1e4) / 100,
          counters: pipeline.intake.health.notes(source).map(({ amount, at, hint, kind, text }) => ({
            kind,
            times: amount,
            last: text,
            hint: hint ?? null,
            last_seconds_ago: ago(at),
          })),
        },
      ]),
    ),
    export: exports.status(),
  };
}

/**
 * The same value with the keys of its objects in snake_case. Where keys are data (ids, ports, codes) they stay as they
 * are: `keyedByData` names the paths of those objects, such as `host.ports`, `gpus[].errors` or, below a key that is data,
 * `ports.*.codes`.
 */
function snakeCased(value: unknown, keyedByData: ReadonlySet<string>, path = ""): unknown {
  if (Array.isArray(value)) return value.map((one) => snakeCased(one, keyedByData, `${path}[]`));
  if (typeof value !== "object" || value === null) return value;
  const isData = keyedByData.has(path);
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      const name = isData ? key : snakeCase(key);
      const step = isData ? "*" : name;
      return [name, snakeCased(inner, keyedByData, path === "" ? step : `${path}.${step}`)];
    }),
  );
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
