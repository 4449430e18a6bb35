// Receives OTLP over gRPC (opentelemetry-proto v1.9; MetricsService, TraceService, LogsService) and counts the GenAI
// usage in it: Envoy AI Gateway, LiteLLM, OpenTelemetry SDKs, vLLM's and SGLang's request traces.
// Volume: at the end of a request. A sender that sends the same usage as metrics, spans and records is read from the
// signal that came first; the others are refused by partial success. Off unless configured.
import { z } from "zod";
import { MessageWriter } from "../../platform/protobuf-writer.ts";
import type { ServerType, SourceContext } from "../../source.ts";
import { checkGatewayScope } from "../entry.ts";
import type { ReceiverMemory } from "../receive/memory.ts";
import type { ReceiverSource } from "../receive/receiver.ts";
import { openReceiver, receiverFields, refuseOpenListener, serveUnary } from "../receive/receiver.ts";
import { LastPoints } from "./last-points.ts";
import type { Claim } from "./metrics.ts";
import { MetricsReader } from "./metrics.ts";
import { RecordsReader } from "./records.ts";
import { SeriesTable } from "./series.ts";

const SENDERS_MAX = 10_000;
const SIGNALS = {
  metrics: "opentelemetry.proto.collector.metrics.v1.MetricsService",
  traces: "opentelemetry.proto.collector.trace.v1.TraceService",
  logs: "opentelemetry.proto.collector.logs.v1.LogsService",
} as const;
type Signal = keyof typeof SIGNALS;

const config = z
  .strictObject({
    ...receiverFields,
    /** Signals that are read. */
    signals: z.array(z.enum(["metrics", "traces", "logs"])).default(["metrics", "traces", "logs"]),
    /** Attribute (of the point, span, record or its resource) that names the tenant, and the product endpoint. */
    tenantAttribute: z.string().min(1).optional(),
    endpointAttribute: z.string().min(1).optional(),
    /** Attribute that says which upstream answered, for `upstreams`; default `server.address` and `server.port`. */
    upstreamAttribute: z.string().min(1).optional(),
  })
  .superRefine(refuseOpenListener);

type Entry = z.output<typeof config>;

/** An OTLP receiver for GenAI usage. */
export const otlp: ServerType<typeof config> = {
  name: "otlp",
  config,
  example: { endpoint: "127.0.0.1:4317" },
  unsaid: ({ endpointAttribute, productEndpoint, tenantAttribute }) => [
    ...(tenantAttribute === undefined ? (["tenant"] as const) : []),
    ...((endpointAttribute ?? productEndpoint) === undefined ? (["endpoint"] as const) : []),
  ],
  open: (entry, context) => openOtlp(entry, context),
  check: (entry) => checkGatewayScope("otlp", entry.family, entry, "told"),
};

/** A receiver that listens once `run` is called. Exported for its test: it listens on a port of its own. */
export function openOtlp(entry: Entry, context: SourceContext): ReceiverSource {
  return openReceiver("otlp", entry, context, (parts) => {
    const { memory } = parts;
    const unixNanos = (): number => Number(context.clock.unixNanos(context.clock.now()));
    const unixSeconds = (): number => Math.floor(unixNanos() / 1e9);
    const points = new LastPoints(Number(parts.began), memory);
    const readers = {
      metrics: new MetricsReader(new SeriesTable(points), entry, unixNanos),
      traces: new RecordsReader("traces", entry, unixSeconds, memory),
      logs: new RecordsReader("logs", entry, unixSeconds, memory),
    };
    const choices = new Choices(memory);
    for (const signal of entry.signals) {
      const reader = readers[signal];
      serveUnary(parts, `/${SIGNALS[signal]}/Export`, (bytes, caller) => {
        const claim: Claim = (service, chooses = true) => choices.claim(caller, service, signal, chooses);
        return partialSuccess(reader.take(bytes, parts.totals, claim, caller));
      });
    }
  });
}

/** Which signal the services of each caller are read from. */
class Choices {
  readonly #memory: ReceiverMemory;
  /** Oldest first; of names without a caller, too, which earlier versions remembered. */
  readonly #chosen: Map<string, Signal>;
  readonly #ofCaller = new Map<string, number>();

  constructor(memory: ReceiverMemory) {
    this.#memory = memory;
    this.#chosen = new Map(memory.restored("signals").map(({ name, value }) => [name, value as Signal]));
    for (const name of this.#chosen.keys()) this.#count(name, 1);
  }

  claim(caller: string, service: string, signal: Signal, chooses: boolean): boolean {
    const name = JSON.stringify([caller, service]);
    const known = this.#chosen.get(name) ?? this.#chosen.get(service);
    if (known !== undefined) return known === signal;
    if (!chooses) return true;
    if (this.#chosen.size >= SENDERS_MAX) this.#forgetOldest();
    this.#chosen.set(name, signal);
    this.#count(name, 1);
    this.#memory.set("signals", name, () => signal);
    return true;
  }

  /** Of the caller with most: who sends under ever new names makes no other's be forgotten. */
  #forgetOldest(): void {
    const [most] = [...this.#ofCaller].sort(([, a], [, b]) => b - a)[0] ?? [];
    for (const name of this.#chosen.keys()) {
      if (callerOf(name) !== most) continue;
      this.#chosen.delete(name);
      this.#count(name, -1);
      this.#memory.set("signals", name, () => undefined);
      return;
    }
  }

  #count(name: string, change: number): void {
    const caller = callerOf(name);
    const now = (this.#ofCaller.get(caller) ?? 0) + change;
    if (now > 0) this.#ofCaller.set(caller, now);
    else this.#ofCaller.delete(caller);
  }
}

/** Whose choice a name stands for; empty for one of an earlier version. */
function callerOf(name: string): string {
  return /^\["((?:[^"\\]|\\.)*)",/.exec(name)?.[1] ?? "";
}

/** Export*ServiceResponse: partial_success 1 {rejected 1, error_message 2}; empty when nothing was refused. */
function partialSuccess(refused: number): Buffer {
  const writer = new MessageWriter();
  if (refused > 0) {
    writer.message(1, (partial) => {
      partial.uint(1, refused);
      partial.text(
        2,
        "refused: no counter, negative, of the future, one series too many, or read from another signal",
      );
    });
  }
  return writer.finish();
}
