// Runs the measured traces through the Correlator as a live host would: GPU lines at their times, polls of the totals
// of the last line at or before them, settling once a second. Knows the truth as trace-replay.ts does.
import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type { CorrelatorOptions } from "../../agent/correlate/correlator.ts";
import { Correlator } from "../../agent/correlate/correlator.ts";
import type {
  GpuInfo,
  GpuSample,
  ServerInfo,
  ServerPoll,
  SettledInterval,
  TokenIncrement,
} from "../../agent/model.ts";

const second = 1_000_000_000;

type Raw = Record<string, number | undefined> & {
  t: number;
  event?: string;
  processes?: { pid: number }[];
  process_utilization?: { pid: number; timestamp_us: number; sm_util_pct: number }[];
  uuid?: string;
};

export interface RecordedServer {
  readonly id: string;
  readonly pid: number;
  readonly startSeconds: number;
  readonly lines: readonly Raw[];
}

export interface Recording {
  readonly info: GpuInfo;
  readonly samples: readonly GpuSample[];
  readonly servers: readonly RecordedServer[];
  /** Time of the last GPU line; the first is 0. */
  readonly end: number;
}

function linesOf(path: URL): Raw[] {
  return gunzipSync(readFileSync(path))
    .toString()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

export function recordingOf(name: string): Recording {
  const folder = new URL(`../fixtures/traces/${name}/`, import.meta.url);
  const [device, ...lines] = linesOf(new URL("gpu.jsonl.gz", folder)) as [Raw, ...Raw[]];
  const origin = lines[0]?.t ?? 0;
  const at = (t: number): number => Math.round((t - origin) * 1e6) * 1000;
  const uuid = device.uuid as string;
  const info: GpuInfo = {
    uuid,
    index: 0,
    name: "H100",
    weight: 1,
    powerLimitWatts: (device["power_limit_mw"] as number) / 1000,
  };
  const samples = lines.map((line): GpuSample => sampleOf(uuid, line, at(line.t)));
  const servers = readdirSync(folder)
    .filter((file) => file.startsWith("tokens"))
    .sort()
    .map((file): RecordedServer => {
      const log = linesOf(new URL(file, folder)).map((line) => ({ ...line, t: line.t - origin }) as Raw);
      const start = log.find((line) => line.event === "start");
      return {
        id: file.replace(/\.jsonl\.gz$/, ""),
        pid: start?.["pid"] as number,
        startSeconds: start?.t ?? 0,
        lines: log,
      };
    });
  return { info, samples, servers, end: samples.at(-1)?.at ?? 0 };
}

function sampleOf(gpu: string, line: Raw, at: number): GpuSample {
  return {
    gpu,
    at,
    energyMillijoules: line["energy_mj"] as number,
    powerWatts: (line["power_average_mw"] as number) / 1000,
    powerInstantWatts: (line["power_instant_mw"] as number) / 1000,
    utilizationRatio: (line["gpu_util_pct"] as number) / 100,
    processes: (line.processes ?? []).map(({ pid }) => ({ pid, type: "compute" as const })),
    processShares: (line.process_utilization ?? []).map((share) => ({
      pid: share.pid,
      at,
      smRatio: share.sm_util_pct / 100,
    })),
  };
}

export interface ReplayOptions extends Partial<CorrelatorOptions> {
  readonly pollSeconds?: number;
  readonly gpuPollMs?: number;
  /** Changes readings before they are handed in. */
  readonly alter?: (samples: readonly GpuSample[]) => readonly GpuSample[];
}

export interface Replayed {
  readonly intervals: readonly SettledInterval[];
  readonly correlator: Correlator;
  readonly recording: Recording;
}

/** Everything a second brings is handed in, then settled: as a tick would. */
export function replay(recording: Recording, options: ReplayOptions = {}): Replayed {
  const { pollSeconds = 1, gpuPollMs = 200, alter, ...rest } = options;
  const correlator = new Correlator({
    origin: 0,
    intervalNanos: second,
    gpuPollMs,
    strict: true,
    ...rest,
  });
  correlator.setGpus([recording.info], 0);
  const infos = recording.servers.map(
    ({ id, pid }): ServerInfo => ({
      id,
      type: "replay",
      family: "engine",
      address: "",
      pollMs: pollSeconds * 1000,
      pids: [pid],
    }),
  );
  correlator.setServers(infos, 0);
  const picked = everyMs(recording.samples, gpuPollMs);
  const samples = alter?.(picked) ?? picked;
  const polls = recording.servers.map((server) => pollsOf(server, recording.end / second, pollSeconds));
  const intervals: SettledInterval[] = [];
  let next = 0;
  const cursors = polls.map(() => 0);
  for (let tick = 0; tick * second < recording.end; tick++) {
    const now = Math.min((tick + 1) * second, recording.end);
    while ((samples[next]?.at ?? Infinity) <= now) correlator.acceptGpu(samples[next++] as GpuSample);
    polls.forEach((list, index) => {
      for (;;) {
        const entry = list[cursors[index] as number];
        if (entry === undefined || entry.poll.at > now) break;
        cursors[index] = (cursors[index] as number) + 1;
        correlator.acceptTokens(infos[index]?.id ?? "", entry.poll, entry.increments);
      }
    });
    intervals.push(...correlator.settle(now));
  }
  intervals.push(...correlator.finish(recording.end));
  return { intervals, correlator, recording };
}

/** The newest reading at or before each instant of the poll grid, each once. */
function everyMs(samples: readonly GpuSample[], pollMs: number): GpuSample[] {
  const picked: GpuSample[] = [];
  let newest = 0;
  const end = samples.at(-1)?.at ?? 0;
  for (let at = 0; ; at += pollMs * 1e6) {
    const instant = Math.min(at, end);
    while ((samples[newest + 1]?.at ?? Infinity) <= instant) newest++;
    const sample = samples[newest];
    if (sample !== undefined && sample !== picked.at(-1)) picked.push(sample);
    if (instant === end) return picked;
  }
}

interface Polled {
  readonly poll: ServerPoll;
  readonly increments: readonly TokenIncrement[];
}

function pollsOf(server: RecordedServer, end: number, pollSeconds: number): Polled[] {
  const instants: number[] = [];
  for (let t = 0; t < end; t += pollSeconds) instants.push(t);
  const polls: Polled[] = [];
  let before = { input: 0, output: 0, requests: 0 };
  for (const t of [...instants, end]) {
    if (t < server.startSeconds) continue;
    const totals = { input: 0, output: 0, requests: 0 };
    let inFlight = 0;
    for (const line of server.lines) {
      if (line.t > t + 1e-6) break;
      totals.input = line["prompt_tokens_total"] ?? totals.input;
      totals.output = line["generation_tokens_total"] ?? totals.output;
      totals.requests = line["requests_total"] ?? totals.requests;
      inFlight = line["requests_running"] ?? inFlight;
    }
    const at = Math.round(t * second);
    polls.push({
      poll: { at, inputTokens: totals.input, outputTokens: totals.output, inFlight, progress: "step" },
      increments: [incrementOf(server.id, at, before, totals)],
    });
    before = totals;
  }
  return polls;
}

type Totals = { readonly input: number; readonly output: number; readonly requests: number };

export function incrementOf(server: string, at: number, before: Totals, now: Totals): TokenIncrement {
  return {
    server,
    family: "engine",
    role: "combined",
    tokens: { input_unsplit: now.input - before.input, output: now.output - before.output },
    reasoningTokens: 0,
    requests: { ok: now.requests - before.requests },
    latencies: {},
    resets: 0,
    late: false,
    at,
  };
}

/** The true token-active stretches of a server: from t - e2e_s to t of each finished batch, joined. */
export function truthOf(server: RecordedServer): [from: number, to: number][] {
  const joined: [number, number][] = [];
  const stretches = server.lines
    .filter((line) => line.event === "req")
    .map((line): [number, number] => [line.t - (line["e2e_s"] ?? 0), line.t])
    .sort((left, right) => left[0] - right[0]);
  for (const [from, to] of stretches) {
    const last = joined.at(-1);
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}
