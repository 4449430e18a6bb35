// How calls wait until what they sent is recorded, and how a caller is asked to come again.
// RetryInfo: google.rpc.Status in the trailer grpc-status-details-bin, as OTLP 1.5 wants it.

import type { Gap, Nanos, TokenSample } from "../../model.ts";
import type { ServiceError } from "../../platform/grpc.ts";
import { Metadata, status } from "../../platform/grpc.ts";
import { MessageWriter } from "../../platform/protobuf-writer.ts";
import type { SourceContext } from "../../source.ts";

const SHARE_NANOS = 200_000_000;
/** How long a caller is asked to wait, and a receiver waits for its address. */
export const retrySeconds = 5;

/** Records what was received; shared by all calls of one receiver. */
export interface Recorder {
  /** Resolves once everything received so far is recorded. */
  recorded(): Promise<void>;
  /** Hands over what is left now, for those who commit; callers hear of it with their own turn. */
  flush(): void;
  /** Records what is left. */
  close(): Promise<void>;
}

/** A recorder that asks `sample` for the totals and gives them to `accept`. */
export function createRecorder(
  context: SourceContext,
  sample: (at: Nanos) => TokenSample,
  accept: (reading: TokenSample | Gap) => Promise<void>,
): Recorder {
  let shared: Promise<void> | undefined;
  const flush = (): Promise<void> => {
    shared = undefined;
    return accept(sample(context.clock.now()));
  };
  return {
    recorded: async () => {
      shared ??= new Promise((resolve, reject) => {
        context.clock.at(context.clock.now() + SHARE_NANOS, () => flush().then(resolve, reject));
      });
      await shared;
    },
    flush: () => {
      if (shared !== undefined) accept(sample(context.clock.now())).catch(() => {});
    },
    close: async () => {
      if (shared !== undefined) await flush();
    },
  };
}

/** UNAVAILABLE with google.rpc.RetryInfo in `grpc-status-details-bin`. */
export function retryLater(details: string): Pick<ServiceError, "code" | "details" | "metadata"> {
  const any = new MessageWriter();
  any.uint(1, status.UNAVAILABLE);
  any.text(2, details);
  any.message(3, (packed) => {
    packed.text(1, "type.googleapis.com/google.rpc.RetryInfo");
    // RetryInfo.retry_delay = 1: Duration{seconds = 1}.
    packed.message(2, (info) => info.message(1, (delay) => delay.uint(1, retrySeconds)));
  });
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", any.finish());
  return { code: status.UNAVAILABLE, details, metadata };
}
