// The first reading of a server and what doctor makes of it: server.reachable, server.counters.
import type { Gap, ServerInfo, TokenReading, TokenSample } from "../../model.ts";
import type { ServerSource } from "../../source.ts";
import type { Finding } from "./check.ts";

/** A server's first reading, asked for or pushed. */
export async function firstReading(source: ServerSource): Promise<TokenSample | Gap> {
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
    const problem = sample.errors.length === 0 ? "" : `: ${sample.errors.join("; ")}`;
    const seen = `it answers, but counts no tokens${problem}`;
    const remedy =
      "send it one request: some servers publish counters only then. If they stay away, `tokenwatt probe " +
      `${info.address}\` shows what is read, and the server may need metrics switched on or another type`;
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
