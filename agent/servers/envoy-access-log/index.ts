// Receives Envoy's gRPC access log (envoy.service.accesslog.v3, data-plane-api 2026): usage per request from the dynamic
// metadata of Envoy AI Gateway, or of any filter that puts token counts there. Keys are the operator's choice; the
// defaults are those of AI Gateway. Envoy never waits for an answer, so nothing can be asked again: over its rate it is
// held back, and counts itself what it drops. Volume: at the end of a request. Off unless configured.
import { z } from "zod";
import type { ServerReadableStream, ServiceError } from "../../platform/grpc.ts";
import { WireError } from "../../platform/protobuf-reader.ts";
import type { ServerType, SourceContext } from "../../source.ts";
import { checkGatewayScope } from "../entry.ts";
import type { ReceiverParts, ReceiverSource } from "../receive/receiver.ts";
import { openReceiver, receiverFields, refuseOpenListener } from "../receive/receiver.ts";
import { decodeAccessLogs } from "./decode.ts";
import { toUsage } from "./usage.ts";

/** Where in the dynamic metadata the numbers are. Exported for its test: entries of every gateway. */
export const metadataFields = z
  .strictObject({
    namespace: z.string().min(1).default("io.envoy.ai_gateway"),
    input: z.string().min(1).default("llm_input_token"),
    cachedInput: z.string().min(1).default("llm_cached_input_token"),
    output: z.string().min(1).default("llm_output_token"),
    reasoning: z.string().min(1).default("llm_reasoning_token"),
    /** The first of these that has a value names the model. */
    model: z.array(z.string().min(1)).default(["model_name_override", "response_model"]),
    timeToFirstTokenMs: z.string().min(1).default("token_latency_ttft"),
    interTokenMs: z.string().min(1).default("token_latency_itl"),
  })
  .prefault({});

const config = z
  .strictObject({
    ...receiverFields,
    /** Each stream may hold one message; Envoy sends them at 16 KiB (`buffer_size_bytes`) unless told otherwise. */
    messageBytesMax: receiverFields.messageBytesMax.unwrap().default(256 * 1024),
    /** Envoy opens one per worker thread. */
    streamsMax: receiverFields.streamsMax.unwrap().default(256),
    metadata: metadataFields,
    /** Request header (Envoy must be told to log it) or metadata key that names the tenant. */
    tenantHeader: z.string().toLowerCase().min(1).optional(),
    tenantMetadata: z.string().min(1).optional(),
  })
  .superRefine(refuseOpenListener);

type Entry = z.output<typeof config>;

/** A receiver for Envoy's gRPC access log. */
export const envoyAccessLog: ServerType<typeof config> = {
  name: "envoy-access-log",
  config,
  example: { endpoint: "127.0.0.1:9467" },
  unsaid: ({ tenantHeader, tenantMetadata }) =>
    (tenantHeader ?? tenantMetadata) === undefined ? ["tenant"] : [],
  open: (entry, context) => openEnvoyAccessLog(entry, context),
  check: (entry) => checkGatewayScope("envoy-access-log", entry.family, entry, "told"),
};

/** A receiver that listens once `run` is called. Exported for its test: it listens on a port of its own. */
export function openEnvoyAccessLog(entry: Entry, context: SourceContext): ReceiverSource {
  return openReceiver("envoy-access-log", entry, context, (parts) => serve(parts, entry, context));
}

function serve(parts: ReceiverParts, entry: Entry, context: SourceContext): void {
  const log = context.log.with({ source: `server:${entry.endpoint}` });
  const take = (bytes: Buffer, caller: string): void => {
    try {
      for (const record of decodeAccessLogs(bytes)) {
        const usage = toUsage(record, entry);
        if (usage !== undefined) parts.totals.addUsage(usage, caller);
      }
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      parts.totals.ignored++;
      log.warn("access log message unreadable", { cause: error.message });
    }
  };
  // Nobody waits for an answer, so one turn of the recorder serves all streams; what comes meanwhile gets the next.
  let [recording, more] = [false, false];
  const record = async (): Promise<void> => {
    more = true;
    if (recording) return;
    recording = true;
    while (more) {
      more = false;
      // What could not be recorded stays counted, and goes with the next turn.
      await parts
        .recorder()
        .recorded()
        .catch(() => {});
    }
    recording = false;
  };
  const receive = (
    call: ServerReadableStream<Buffer, Buffer>,
    callback: (error: Partial<ServiceError> | null, value?: Buffer) => void,
  ): void => {
    const caller = parts.callers.scopeOf(call.getPeer());
    call.on("data", (bytes: Buffer) => {
      take(bytes, caller);
      void record();
    });
    call.on("error", () => {});
    call.on("end", () => callback(null, Buffer.alloc(0)));
  };
  const asBytes = (bytes: Buffer): Buffer => bytes;
  parts.server.register(
    "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
    receive,
    asBytes,
    asBytes,
    "clientStream",
  );
}
