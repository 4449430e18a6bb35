// Receives tokenwatt.v1 UsageReports.ReportUsage: usage per request from gateways and libraries that keep no counters.
// Facts: proto/tokenwatt/v1/usage.proto. A record counts once per (source, id) for 35 days or a million ids, whichever
// ends first; older records are refused. Volume: at the end of a request. Off unless configured.
import { z } from "zod";
import type { ServerType, SourceContext } from "../source.ts";
import { createUsageReader } from "./read.ts";
import type { ReceiverSource } from "./receive/receiver.ts";
import { openReceiver, receiverFields, refuseOpenListener, serveUnary } from "./receive/receiver.ts";

const config = z.strictObject(receiverFields).superRefine(refuseOpenListener);

type Entry = z.output<typeof config>;

/** A receiver for usage reports by our own contract. */
export const usageReports: ServerType<typeof config> = {
  name: "usage-reports",
  config,
  example: { endpoint: "127.0.0.1:9466" },
  open: (entry, context) => openUsageReports(entry, context),
};

/** A receiver that listens once `run` is called. */
export function openUsageReports(entry: Entry, context: SourceContext): ReceiverSource {
  return openReceiver("usage-reports", entry, context, (parts) => {
    const take = createUsageReader(parts.totals, context.clock, entry.modelAliases, parts.memory);
    serveUnary(parts, "/tokenwatt.v1.UsageReports/ReportUsage", take);
  });
}
