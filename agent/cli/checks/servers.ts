// server.reachable: whether each configured server answers. server.counters: whether it counts tokens.
// One poll through the server's own source, so that doctor sees what the daemon would see.
import { configuredServers } from "../../config.ts";
import type { Gap, ServerInfo, TokenReading, TokenSample } from "../../model.ts";
import type { ServerSource, ServerType } from "../../source.ts";
import { readStatus } from "../daemon-process.ts";
import type { Check, CheckContext, Finding } from "./check.ts";
import { reasonOf, within } from "./check.ts";
import { listenError } from "./port.ts";

const READ_MS = 8000;
const STATUS_MS = 2000;

export const serversCheck: Check = {
  ids: ["server.reachable", "server.counters"],
  run: async (context) => {
    if (context.loaded === undefined) return [];
    const servers = configuredServers(context.loaded.config);
    if (servers.length === 0) {
      const seen = "no server is configured: GPU time will be booked as other, not as token_active";
      const remedy = "name your inference servers under `servers`; `tokenwatt config init` shows how";
      return [{ id: "server.reachable", verdict: "warn", seen, remedy }];
    }
    const findings = await Promise.all(
      servers.map(({ type, entry, path }) => judge(context, type, entry, path)),
    );
    return findings.flat();
  },
};

async function judge(
  context: CheckContext,
  type: ServerType,
  entry: unknown,
  path: string,
): Promise<Finding[]> {
  let source: ServerSource | undefined;
  let info: ServerInfo | undefined;
  const fail = (seen: string, hint: string | undefined): Finding => ({
    id: "server.reachable",
    subject: info?.id ?? path,
    verdict: "fail",
    seen,
    remedy:
      hint ?? `is ${info?.address ?? path} the right address, and does the server publish its metrics there?`,
  });
  try {
    source = type.open(entry, context);
    info = source.info;
    if (listens(source)) return [await judgeReceiver(context, info)];
    const reading = await within(context, READ_MS, `asking ${info.address}`, firstReading(source));
    if ("reason" in reading) return [fail(reading.reason, undefined)];
    return judgeSample(info, reading);
  } catch (error) {
    const { seen, hint } = reasonOf(error);
    return [fail(seen, hint)];
  } finally {
    await source?.close().catch(() => {});
  }
}

/** Whether the source is a receiver: others call it, so there is nobody to ask. */
function listens(source: ServerSource): boolean {
  return "listening" in source;
}

async function judgeReceiver(context: CheckContext, info: ServerInfo): Promise<Finding> {
  const base = { id: "server.reachable", subject: info.id };
  const code = info.address.startsWith("unix:") ? undefined : await listenError(info.address);
  if (code === undefined)
    return { ...base, verdict: "ok", seen: `${info.type} can listen on ${info.address}` };
  const status = await readStatus(context.loaded?.config.export.prometheus ?? { listen: "" }, STATUS_MS);
  if (code === "EADDRINUSE" && status !== undefined) {
    return { ...base, verdict: "ok", seen: `${info.address} is held, a tokenwatt is running` };
  }
  const remedy = "choose another endpoint for it, or stop what listens there (`ss -ltnp` names it)";
  return { ...base, verdict: "fail", seen: `${info.type} cannot listen on ${info.address}: ${code}`, remedy };
}

async function firstReading(source: ServerSource): Promise<TokenSample | Gap> {
  if (source.kind === "pull") return source.poll();
  const { promise, resolve, reject } = Promise.withResolvers<TokenSample | Gap>();
  source
    .run(async (reading) => resolve(reading))
    .then(() => reject(new Error("the stream ended before its first reading")), reject);
  return promise;
}

/** The verdicts on a server's first reading. */
export function judgeSample(info: ServerInfo, sample: TokenSample): Finding[] {
  const subject = info.id;
  const ms = Math.round((sample.received - sample.sent) / 1e6);
  const version = sample.version === undefined ? "" : ` ${sample.version}`;
  const reachable: Finding = {
    id: "server.reachable",
    subject,
    verdict: "ok",
    seen: `${info.type}${version} at ${info.address} answered in ${ms} ms`,
  };
  const models = [...new Set(sample.readings.map((reading) => reading.model ?? "unnamed model"))];
  const facts = { models, ignoredSamples: sample.ignoredSamples, errors: sample.errors };
  const counters = { id: "server.counters", subject, facts };
  if (!sample.readings.some(counts)) {
    const seen = "it answers, but counts no tokens";
    const remedy =
      "send it one request: some servers publish counters only then. If they stay away, `tokenwatt probe " +
      `${info.address}\` shows what is read, and the server may need metrics switched on`;
    return [reachable, { ...counters, verdict: "warn", seen, remedy }];
  }
  if (sample.errors.length > 0 || sample.ignoredSamples > 0) {
    const seen = `${sample.ignoredSamples} samples ignored; ${sample.errors[0] ?? "not finite, negative or absurd"}`;
    const remedy = `\`tokenwatt probe ${info.address}\` shows what is read and what is not`;
    return [reachable, { ...counters, verdict: "warn", seen, remedy }];
  }
  return [reachable, { ...counters, verdict: "ok", seen: `counts tokens of ${models.join(", ")}` }];
}

function counts(reading: TokenReading): boolean {
  return Object.values(reading.tokens).some((value) => value !== undefined);
}
