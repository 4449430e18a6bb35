// Replays the measured traces into activity estimators as a live host would see them, and knows their truth:
// a server was active from t - e2e_s to t of each `req` line (recording format 1, traces of three H100 runs).
import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import {
  createActivity,
  decidableUntil,
  observePoll,
  observeWindow,
  settle,
} from "../../agent/correlate/activity/activity.ts";
import type { Activity, ActivitySegment, ActivityWindow } from "../../agent/correlate/activity/evidence.ts";
import { busyBetween, observePeer } from "../../agent/correlate/activity/others.ts";
import type { ServerPoll } from "../../agent/model.ts";

export const second = 1_000_000_000;
export type Line = Record<string, number & string> & { t: number; event: string };
type Stretch = readonly [from: number, to: number];

export interface Server {
  readonly name: string;
  readonly start: number;
  readonly lines: readonly Line[];
}

export interface Trace {
  readonly length: number;
  readonly gpu: readonly { readonly t: number; readonly utilization: number }[];
  readonly servers: readonly Server[];
}

function linesOf(path: URL): Line[] {
  const text = gunzipSync(readFileSync(path)).toString();
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

export function traceOf(name: string): Trace {
  const folder = new URL(`../fixtures/traces/${name}/`, import.meta.url);
  const samples = linesOf(new URL("gpu.jsonl.gz", folder)).slice(1);
  const begin = samples[0]?.t ?? 0;
  const servers = readdirSync(folder)
    .filter((file) => file.startsWith("tokens"))
    .sort();
  return {
    length: (samples.at(-1)?.t ?? 0) - begin,
    gpu: samples.map((line) => ({ t: line.t - begin, utilization: (line["gpu_util_pct"] ?? 0) / 100 })),
    servers: servers.map((file) => {
      const lines = linesOf(new URL(file, folder)).map((line) => ({ ...line, t: line.t - begin }) as Line);
      return { name: file, start: lines.find((line) => line.event === "start")?.t ?? 0, lines };
    }),
  };
}

/** Utilisation is refreshed every 200 ms, so a reading is 100 ms old on average. */
function windowsOf(trace: Trace): ActivityWindow[] {
  const windows: ActivityWindow[] = [];
  let newest = 0;
  let before: number | undefined;
  for (let t = 0; t <= trace.length; t += 0.2) {
    while ((trace.gpu[newest + 1]?.t ?? Infinity) <= t + 1e-6) newest++;
    const sample = trace.gpu[newest];
    if (sample === undefined || sample.t === before) continue;
    if (before !== undefined)
      windows.push({ from: nanos(before - 0.1), to: nanos(sample.t - 0.1), busyRatio: sample.utilization });
    before = sample.t;
  }
  return windows;
}

function pollsOf(server: Server, length: number, pollSeconds: number, offset: number): ServerPoll[] {
  const instants = [];
  for (let t = offset; t < length; t += pollSeconds) instants.push(t);
  const polls: ServerPoll[] = [];
  for (const t of [...instants, length]) {
    if (t < server.start) continue;
    let [inputTokens, outputTokens, inFlight] = [0, 0, 0];
    for (const line of server.lines) {
      if (line.t > t + 1e-6) break;
      inputTokens = line["prompt_tokens_total"] ?? inputTokens;
      outputTokens = line["generation_tokens_total"] ?? outputTokens;
      inFlight = line["requests_running"] ?? inFlight;
    }
    polls.push({ at: nanos(t), inputTokens, outputTokens, inFlight, progress: "step" });
  }
  return polls;
}

/** The estimator of a server whose counters were at zero when it started. */
function startedAtZero(from: number, pollNanos: number): Activity {
  const activity = createActivity({ from, pollNanos });
  const zeros = { inputTokens: 0, outputTokens: 0, inFlight: 0, activeNanos: 0 };
  observePoll(activity, { at: from, ...zeros, progress: "step" });
  return activity;
}

/** Feeds one second at a time, as a live host would see it arrive, and settles what is decidable. */
export function estimate(trace: Trace, pollSeconds: number, offset = 0): ActivitySegment[][] {
  const windows = windowsOf(trace);
  const settleNanos = nanos(Math.min(30, 2 * pollSeconds));
  const runs = trace.servers.map((server) => ({
    from: nanos(server.start),
    polls: pollsOf(server, trace.length, pollSeconds, offset),
    activity: startedAtZero(nanos(server.start), nanos(pollSeconds)),
    segments: [] as ActivitySegment[],
  }));
  for (let tick = 1; ; tick++) {
    const end = tick >= trace.length;
    const now = nanos(Math.min(tick, trace.length));
    for (const run of runs) feed(run, runs, windows, now - second, now);
    const begun = runs.filter((run) => run.from < now);
    const until = Math.min(now, ...begun.map((run) => decidableUntil(run.activity, now, settleNanos)));
    for (const run of runs) run.segments.push(...settle(run.activity, end ? now : until));
    if (end) return runs.map((run) => run.segments);
  }
}

type Run = { from: number; polls: ServerPoll[]; activity: Activity };

function feed(
  run: Run,
  runs: readonly Run[],
  windows: readonly ActivityWindow[],
  after: number,
  now: number,
) {
  for (const window of windows)
    if (window.to > Math.max(after, run.from) && window.to <= now) observeWindow(run.activity, window);
  for (const [index, poll] of run.polls.entries()) {
    if (poll.at <= after && poll.at !== 0) continue;
    if (poll.at > now || !observePoll(run.activity, poll)) continue;
    const start = { at: run.from, inputTokens: 0, outputTokens: 0, inFlight: 0, progress: "step" } as const;
    const before = run.polls[index - 1] ?? start;
    if (busyBetween(before, poll))
      for (const peer of runs) if (peer !== run) observePeer(peer.activity, before.at, poll.at);
  }
}

export function nanos(seconds: number): number {
  return Math.round(seconds * second);
}

export function activeOf(segments: readonly ActivitySegment[]): Stretch[] {
  return segments
    .filter((segment) => segment.state === "active")
    .map((segment) => [segment.from / second, segment.to / second]);
}

function truthOf(server: Server): Stretch[] {
  return union(
    server.lines
      .filter((line) => line.event === "req")
      .map((line) => [line.t - (line["e2e_s"] ?? 0), line.t]),
  );
}

function union(stretches: readonly Stretch[]): Stretch[] {
  const joined: [number, number][] = [];
  for (const [from, to] of [...stretches].sort((left, right) => left[0] - right[0])) {
    const last = joined.at(-1);
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

export function within(stretches: readonly Stretch[], from: number, to: number): number {
  return stretches.reduce((sum, [a, b]) => sum + Math.max(0, Math.min(b, to) - Math.max(a, from)), 0);
}

export function errorsOf(trace: Trace, segments: readonly ActivitySegment[][]) {
  const { length } = trace;
  const found = segments.map(activeOf);
  const contested = segments.flat().filter((segment) => segment.contested);
  const shared = contested.map((segment): Stretch => [segment.from / second, segment.to / second]);
  const truth = trace.servers.map(truthOf);
  const [all, real] = [union([...found.flat(), ...shared]), union(truth.flat())];
  let windows = 0;
  for (let from = 0; from < length; from += 10) {
    const to = Math.min(length, from + 10);
    windows += Math.abs(within(all, from, to) - within(real, from, to));
  }
  return {
    sum: Math.abs(within(all, 0, length) - within(real, 0, length)) / length,
    windows: windows / length,
    own: Math.max(
      ...found.map(
        (own, index) => Math.abs(within(own, 0, length) - within(truth[index] ?? [], 0, length)) / length,
      ),
    ),
  };
}
