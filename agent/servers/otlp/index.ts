// Receives OTLP over gRPC (opentelemetry-proto v1.9; MetricsService, TraceService, LogsService) and counts the GenAI
// usage in it: Envoy AI Gateway, LiteLLM, OpenTelemetry SDKs, vLLM's and SGLang's request traces.
// Volume: at the end of a request. A sender that sends the same usage as metrics, spans and records is read from the
// signal that came first; the others are refused by partial success. Off unless configured.
import { z } from "zod";
import { MessageWriter } from "../../platform/protobuf-writer.ts";
import type { ServerType, SourceContext } from "../../source.ts";
import { checkGatewayScope } from "../entry.ts";
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
    const chosen = new Map(memory.restored("signals").map(({ name, value }) => [name, value as Signal]));
    for (const signal of entry.signals) {
      const claim: Claim = (service, chooses = true) => {
        const known = chosen.get(service);
        if (known !== undefined) return known === signal;
        if (!chooses) return true;
        const [oldest] = chosen.size >= SENDERS_MAX ? chosen.keys() : [];
        if (oldest !== undefined) {
          chosen.delete(oldest);
          memory.set("signals", oldest, () => undefined);
        }
        chosen.set(service, signal);
        memory.set("signals", service, () => signal);
        return true;
      };
      const reader = readers[signal];
      serveUnary(parts, `/${SIGNALS[signal]}/Export`, (bytes) =>
        partialSuccess(reader.take(bytes, parts.totals, claim)),
      );
    }
  });
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
