// Receives tokenwatt.v1 UsageReports.ReportUsage: usage per request from gateways and libraries that keep no counters.
// Facts: proto/tokenwatt/v1/usage.proto. A record counts once per (source, id) for 35 days, whatever their number; older
// records are refused. Volume: at the end of a request. Off unless configured.
import { z } from "zod";
import type { TokenKind } from "../model.ts";
import { tagOf, WireError, WireReader } from "../platform/protobuf-reader.ts";
import { MessageWriter } from "../platform/protobuf-writer.ts";
import type { ServerType, SourceContext } from "../source.ts";
import { checkGatewayScope } from "./entry.ts";
import type { ReceiverSource, Taken } from "./receive/receiver.ts";
import { openReceiver, receiverFields, refuseOpenListener, serveUnary } from "./receive/receiver.ts";
import type { Answer, UsageCountingParts, UsageRecord } from "./receive/usage-counting.ts";
import { UsageCounting } from "./receive/usage-counting.ts";
import { kinds, outcomes } from "./token-counters/messages.ts";

const config = z.strictObject(receiverFields).superRefine(refuseOpenListener);

type Entry = z.output<typeof config>;

/** A receiver for usage reports by our own contract. */
export const usageReports: ServerType<typeof config> = {
  name: "usage-reports",
  config,
  example: { endpoint: "127.0.0.1:9466" },
  open: (entry, context) => openUsageReports(entry, context),
  check: (entry) => checkGatewayScope("usage-reports", entry.family, entry, "told"),
};

/** A receiver that listens once `run` is called. Exported for its test: it listens on a port of its own. */
export function openUsageReports(entry: Entry, context: SourceContext): ReceiverSource {
  return openReceiver("usage-reports", entry, context, (parts) => {
    const { memory, totals } = parts;
    const take = createUsageReader({
      totals,
      memory,
      clock: context.clock,
      aliases: entry.modelAliases,
      stored: context.countedUsage,
      isEngine: entry.family === "engine",
    });
    serveUnary(parts, "/tokenwatt.v1.UsageReports/ReportUsage", take);
  });
}

const RECORDS_MAX = 1000;
/**
 * Reads requests into totals; rejects with WireError what is unreadable or too large.
 * Exported for its test: broken messages.
 */
export function createUsageReader(
  parts: UsageCountingParts & { readonly aliases?: Readonly<Record<string, string>> | undefined },
): (bytes: Buffer, caller?: string) => Promise<Taken> {
  const counting = new UsageCounting(parts);
  return async (bytes, caller) => {
    const { records, source } = decodeReport(bytes, parts.aliases);
    if (source === "") throw new WireError("Cannot take usage without a source");
    const { answer, onRecorded } = await counting.count(source, records, caller);
    return { answer: encodeResponse(answer), onRecorded };
  };
}

function decodeReport(
  bytes: Buffer,
  aliases: Readonly<Record<string, string>> | undefined,
): { source: string; records: UsageRecord[] } {
  const reader = new WireReader(bytes);
  const records: UsageRecord[] = [];
  let source = "";
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) source = reader.text();
    else if (tag === tagOf(2, "bytes")) records.push(decodeRecord(reader, aliases));
    else reader.skip(tag);
    if (records.length > RECORDS_MAX)
      throw new WireError(`Cannot take more than ${RECORDS_MAX} records at once`);
  }
  return { source, records };
}

function decodeRecord(
  reader: WireReader,
  aliases: Readonly<Record<string, string>> | undefined,
): UsageRecord {
  const tokens: Partial<Record<TokenKind, number>> = {};
  const named: { model?: string; tenant?: string; endpoint?: string; upstream?: string } = {};
  const seconds: { time_to_first_token?: number; request_duration?: number } = {};
  let [id, endTime, outcome, requests] = ["", 0n, 0, 0];
  let [corrects, isVoid] = ["", false];
  let reasoning: number | undefined;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "bytes")) id = reader.text();
    else if (tag === tagOf(2, "varint")) endTime = reader.bigUint();
    else if (tag === tagOf(3, "bytes")) named.model = reader.text();
    else if (tag === tagOf(4, "bytes")) named.tenant = reader.text();
    else if (tag === tagOf(5, "bytes")) named.endpoint = reader.text();
    else if (tag === tagOf(6, "varint")) outcome = reader.uint();
    else if (tag === tagOf(7, "bytes")) readTokens(reader, tokens);
    else if (tag === tagOf(8, "varint")) reasoning = reader.uint();
    else if (tag === tagOf(9, "varint")) requests = reader.uint();
    else if (tag === tagOf(10, "fixed64")) seconds.time_to_first_token = reader.double();
    else if (tag === tagOf(11, "fixed64")) seconds.request_duration = reader.double();
    else if (tag === tagOf(12, "bytes")) corrects = reader.text();
    else if (tag === tagOf(13, "varint")) isVoid = reader.uint() !== 0;
    else if (tag === tagOf(14, "bytes")) named.upstream = reader.text();
    else reader.skip(tag);
  }
  reader.leave(outer);
  const given = (text: string | undefined): string | undefined => (text === "" ? undefined : text);
  const model = given(named.model);
  return {
    id,
    endTime,
    corrects,
    isVoid,
    usage: {
      model: model === undefined ? undefined : (aliases?.[model] ?? model),
      tenant: given(named.tenant),
      endpoint: given(named.endpoint),
      upstream: given(named.upstream),
      outcome: outcomes[outcome] ?? "ok",
      tokens,
      reasoningTokens: reasoning,
      requests: requests === 0 ? 1 : requests,
      ...(requests > 1 ? {} : { seconds }),
    },
  };
}

/** TokenCount: kind 1, tokens 3; its outcome is the record's. */
function readTokens(reader: WireReader, into: Partial<Record<TokenKind, number>>): void {
  let [kind, tokens] = [0, 0];
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(1, "varint")) kind = reader.uint();
    else if (tag === tagOf(3, "varint")) tokens = reader.uint();
    else reader.skip(tag);
  }
  reader.leave(outer);
  const name = kinds[kind];
  if (name !== undefined) into[name] = (into[name] ?? 0) + tokens;
}

function encodeResponse({ accepted, conflicts, duplicates, refused }: Answer): Buffer {
  const writer = new MessageWriter();
  writer.uint(1, accepted);
  writer.uint(2, duplicates);
  for (const { id, reason } of refused) {
    writer.message(3, (nested) => {
      nested.text(1, id);
      nested.text(2, reason);
    });
  }
  writer.uint(4, conflicts);
  return writer.finish();
}
