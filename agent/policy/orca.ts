// Load of servers out of band: xds.service.orca.v3.OpenRcaService/StreamCoreMetrics, one port for all servers of the host,
// told apart by `:authority` (the server's id, else the model it serves, else any name where there is one server). The
// first report comes at once; a server that cannot be read gets none, so that its weight ends with the caller: 0 would mean
// "not set" there. An unknown name is NOT_FOUND, never UNIMPLEMENTED: Envoy 1.40 gives up for good on that.

import type { Cancel, Clock } from "../platform/clock.ts";
import { every } from "../platform/clock.ts";
import type { handleServerStreamingCall } from "../platform/grpc.ts";
import { Server, status } from "../platform/grpc.ts";
import type { Log } from "../platform/log.ts";
import { tagOf, WireReader } from "../platform/protobuf-reader.ts";
import { MessageWriter } from "../platform/protobuf-writer.ts";
import type { ServerLoad } from "./orca-load.ts";
import type { PolicyListener, PolicyPlace } from "./rls.ts";
import { listenWith } from "./rls.ts";

const STREAMS_MAX = 256;
const INTERVAL_MS_MAX = 3_600_000;
const CONNECTION = {
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
  "grpc.max_receive_message_length": 4096,
};

/** What streams are answered by. */
export interface OrcaParts {
  readonly clock: Clock;
  readonly log: Log;
  /** Least distance of two reports of a stream. */
  readonly minimumMs: number;
  /** The server a name stands for; undefined = none. */
  readonly serverOf: (authority: string) => string | undefined;
  /** Its load now; undefined while it cannot be read. */
  readonly loadOf: (server: string) => ServerLoad | undefined;
}

/** An open listener, and how many follow it. */
export interface LoadListener extends PolicyListener {
  readonly streams: number;
}

/** Listens for StreamCoreMetrics. Rejects where the address cannot be had. */
export async function serveLoads(place: PolicyPlace, parts: OrcaParts): Promise<LoadListener> {
  const server = new Server({ ...CONNECTION, "grpc.max_concurrent_streams": STREAMS_MAX });
  let streams = 0;
  const handle: handleServerStreamingCall<Buffer, Buffer> = (call) => {
    const name = call.getHost().replace(/:\d+$/, "");
    const id = parts.serverOf(name);
    const refused =
      id === undefined
        ? { code: status.NOT_FOUND, details: `no server ${JSON.stringify(name)} here` }
        : streams >= STREAMS_MAX
          ? { code: status.RESOURCE_EXHAUSTED, details: `more than ${STREAMS_MAX} streams` }
          : undefined;
    if (refused !== undefined || id === undefined) {
      call.emit("error", refused);
      return;
    }
    streams++;
    const report = (): void => {
      const load = parts.loadOf(id);
      // A caller that takes nothing gets the next report, not all that it missed.
      if (load !== undefined && call.writableLength === 0) call.write(encodeReport(load));
    };
    report();
    const cancel: Cancel = every(parts.clock, Math.max(askedMs(call.request), parts.minimumMs), report);
    call.once("close", () => {
      cancel();
      streams--;
    });
    call.on("cancelled", () => call.end());
  };
  const bytes = (value: Buffer): Buffer => value;
  const path = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";
  server.register(path, handle, bytes, bytes, "serverStream");
  const { close, port } = await listenWith(server, place, parts.log);
  return {
    port,
    close,
    get streams() {
      return streams;
    },
  };
}

/** The interval a caller asks for; 0 where it asks for none, or what it sent cannot be read. */
function askedMs(request: Uint8Array): number {
  try {
    const reader = new WireReader(request);
    let [seconds, nanos] = [0, 0];
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag !== tagOf(1, "bytes")) {
        reader.skip(tag);
        continue;
      }
      const outer = reader.enter();
      for (let inner = reader.tag(); inner !== 0; inner = reader.tag()) {
        if (inner === tagOf(1, "varint")) seconds = reader.uint();
        else if (inner === tagOf(2, "varint")) nanos = reader.uint();
        else reader.skip(inner);
      }
      reader.leave(outer);
    }
    return Math.min(INTERVAL_MS_MAX, seconds * 1000 + nanos / 1e6);
  } catch {
    return 0;
  }
}

/** An OrcaLoadReport; what is not known is left out. */
function encodeReport(load: ServerLoad): Buffer {
  const writer = new MessageWriter();
  const map = (field: number, values: Readonly<Record<string, number | undefined>>): void => {
    for (const [key, value] of Object.entries(values)) {
      if (value === undefined) continue;
      writer.message(field, (entry) => {
        entry.text(1, key);
        entry.double(2, value);
      });
    }
  };
  map(5, load.utilization);
  writer.double(6, load.requestsPerSecond);
  writer.double(7, load.failedPerSecond);
  map(8, load.named);
  writer.double(9, load.applicationUtilization);
  return writer.finish();
}
