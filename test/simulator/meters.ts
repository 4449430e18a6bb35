// How drivers and pages show a simulated host: the lines of a format 2 recording (METERING.md 10), and the truth beside.
// Driver as measured on an H100: a utilisation ring of 200 ms windows in whole percent, a power ring of 20 ms, an energy
// counter refreshed each 100 ms, one process credited per 200 ms window.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Random } from "./random.ts";
import type { Counters, Engine, EngineTruth, GpuTruth, Host } from "./world.ts";
import { simulate } from "./world.ts";

/** How the GPUs are read. */
export interface GpuReading {
  /** Distance of readings, ms. */
  readonly everyMs: number;
  /** `rings`: the driver's history. `window`: the last 200 ms window only. `mean`: GPM or DCGM activity since the last. */
  readonly activity: "rings" | "window" | "mean";
  readonly counter: boolean;
  readonly processes: boolean;
  readonly processShares: boolean;
  /** Processes are named after their data-parallel rank, as vLLM does. */
  readonly titles?: boolean;
  /** Share of readings that are lost. */
  readonly lostShare: number;
  /** Utilisation samples that are lost out of the ring. */
  readonly lostWindows: number;
}

/** How a server's page is read. */
export interface PageReading {
  readonly pollMs: number;
  /** From asking to the whole answer. */
  readonly answerMs: number;
  /** The page shows what was so at its last refresh. */
  readonly refreshMs: number;
  /** It is refreshed by the first request for a copy that is so old, not by a timer. */
  readonly onDemand?: boolean;
  /** So many keep a copy each behind one address, and answer in turn. */
  readonly replicas?: number;
  /** Share of polls without an answer. */
  readonly lostPolls?: number;
  readonly gauge: boolean;
  readonly durations: boolean;
  /** What prefill and decode of the requests that ended took. */
  readonly phaseTimes: boolean;
  readonly kind: "step" | "finish";
  readonly activeTime: boolean;
  /** It tells its data-parallel ranks apart. */
  readonly ranks?: boolean;
  /** Share of polls in which the series of one rank are missing. */
  readonly lostRanks?: number;
  /** The server is down between two instants, ms, and begins to count anew. */
  readonly restart?: { readonly from: number; readonly to: number };
}

export interface Regime {
  readonly name: string;
  readonly seed: number;
  readonly host: Host;
  readonly gpus: GpuReading;
  readonly pages: Readonly<Record<string, PageReading>>;
  /** GPU-instance slices of each GPU of the host, as instances of one board. */
  readonly mig?: readonly number[];
  /** In which order the configuration names an engine's GPUs; by rank unless it says otherwise. */
  readonly order?: (engine: Engine) => readonly number[];
  /** Product name. */
  readonly gpuName: string;
}

/** What a phase took. */
export interface PhaseTruth {
  readonly seconds: number;
  readonly joules: number;
}

/** The truth a judge compares with. */
export interface Truth {
  readonly lengthSeconds: number;
  readonly gpus: Readonly<
    Record<
      string,
      {
        readonly active: Uint8Array;
        readonly joules: number;
        /** What the board drew while any request was in execution on it. */
        readonly activeJoules: number;
      }
    >
  >;
  readonly servers: Readonly<
    Record<
      string,
      {
        readonly active: Uint8Array;
        readonly inputTokens: number;
        readonly outputTokens: number;
        readonly joules: number;
        /** GPU-seconds in execution, and joules with their part of what holding the GPU cost. */
        readonly prefill: PhaseTruth;
        readonly decode: PhaseTruth;
      }
    >
  >;
}

const origin = 1_800_000_000;
const windowMs = 200;
/** What a front end adds to the duration of a request. */
const frontEndSeconds = 0.003;
/** A driver keeps this much of its rings. */
const utilizationKept = 71;
const powerKept = 119;

/** Writes the recording of a regime into a folder and returns the truth. */
export function record(regime: Regime, folder: string): Truth {
  const { host } = regime;
  const random = new Random(regime.seed * 7 + 1);
  const { engines, gpus } = simulate(host);
  mkdirSync(folder, { recursive: true });
  const uuid = (index: number): string =>
    `${regime.mig ? "MIG" : "GPU"}-0000000${index}-0000-4000-8000-000000000000`;
  const powers = gpus.map((gpu, index) => powerOf(host, gpu, index));
  const shares = regime.mig;
  if (shares === undefined)
    gpus.forEach((gpu, index) => {
      const lines = gpuLines(regime, gpu, powers[index] as Float32Array, index, random);
      writeLines(folder, `gpu-${uuid(index)}.jsonl`, [device(regime, uuid(index), {}), ...lines]);
    });
  else writeMig(regime, folder, gpus, powers, shares, uuid, random);
  host.engines.forEach((engine, index) => {
    const lines = pageLines(regime, engine, engines[index] as EngineTruth, random);
    writeLines(folder, `server-${engine.id}.jsonl`, lines);
  });
  const recording = {
    format: 2,
    start_unix: origin,
    gpu_poll_ms: regime.gpus.everyMs,
    gpus: gpus.map((_, index) => ({ uuid: uuid(index), name: regime.gpuName })),
    servers: host.engines.map((engine) => ({
      id: engine.id,
      type: "vllm",
      family: "engine",
      poll_ms: regime.pages[engine.id]?.pollMs,
      ...(regime.gpus.processes
        ? { pids: engine.ranks.flatMap(({ pids }) => pids) }
        : { gpus: (regime.order?.(engine) ?? engine.ranks.flatMap((rank) => rank.gpus)).map(uuid) }),
    })),
  };
  writeFileSync(join(folder, "recording.json"), JSON.stringify(recording));
  return truthOf(regime, engines, gpus, powers, uuid);
}

function writeLines(folder: string, name: string, lines: readonly object[]): void {
  writeFileSync(join(folder, name), `${lines.map((line) => JSON.stringify(line)).join("\n")}\n`);
}

function device(regime: Regime, uuid: string, more: object): object {
  return {
    kind: "device",
    uuid,
    name: regime.gpuName,
    memory_total_bytes: 85_520_809_984,
    power_limit_mw: 700_000,
    driver: "580.159.04",
    ...more,
  };
}

/** Watts per ms: floor while a process holds the GPU, what it draws free otherwise, and what kernels add. */
function powerOf(host: Host, gpu: GpuTruth, index: number): Float32Array {
  const { floorWatts, freeWatts } = host.gpus[index] as Host["gpus"][number];
  const power = new Float32Array(host.milliseconds);
  const held = holders(host, index);
  for (let ms = 0; ms < host.milliseconds; ms++)
    power[ms] = ((held[ms] as number) > 0 ? floorWatts : freeWatts) + (gpu.watts[ms] as number);
  return power;
}

/** How many residents a GPU has in each ms. */
function holders(host: Host, gpu: number): Uint8Array {
  const held = new Uint8Array(host.milliseconds);
  const bounds = [...host.engines, ...host.jobs].flatMap(({ from, to = host.milliseconds }) => [from, to]);
  const ends = [...new Set([...bounds, host.milliseconds].map(Math.ceil))].sort((one, other) => one - other);
  let from = 0;
  for (const end of ends) {
    if (end > from) held.fill(residents(host, gpu, from).length, from, end);
    from = Math.max(from, end);
  }
  return held;
}

/** Servers with a process on a GPU at `ms`; all jobs together are one. */
function residents(host: Host, gpu: number, ms: number): string[] {
  const servers = host.engines
    .filter((engine) => isThere(engine, ms) && engine.ranks.some(({ gpus }) => gpus.includes(gpu)))
    .map(({ id }) => id);
  const jobs = host.jobs.some((job) => job.gpu === gpu && ms >= job.from && ms < job.to);
  return jobs ? [...servers, "unmetered"] : servers;
}

function isThere({ from, to = Number.POSITIVE_INFINITY }: Engine, ms: number): boolean {
  return ms >= from && ms < to;
}

function pidsAt(host: Host, gpu: number, ms: number): number[] {
  const engines = host.engines
    .filter((engine) => isThere(engine, ms))
    .flatMap(({ ranks }) => ranks)
    .flatMap((rank) => rank.gpus.flatMap((on, index) => (on === gpu ? [rank.pids[index] as number] : [])));
  const jobs = host.jobs.filter((job) => job.gpu === gpu && ms >= job.from && ms < job.to);
  return [...engines, ...jobs.map(({ pid }) => pid)];
}

function processOf({ host, gpus }: Regime, pid: number): object {
  const rank = host.engines
    .map(({ ranks }) => ranks.findIndex(({ pids }) => pids.includes(pid)))
    .find((index) => index >= 0);
  const name = gpus.titles === true && rank !== undefined ? { name: `VLLM::EngineCore_DP${rank}` } : {};
  return { pid, type: "compute", ...name };
}

function gpuLines(
  regime: Regime,
  gpu: GpuTruth,
  power: Float32Array,
  index: number,
  random: Random,
): object[] {
  const { host, gpus: how } = regime;
  const phase = random.whole(0, windowMs - 1);
  const lines: object[] = [];
  let last = 0;
  for (let at = 0; at <= host.milliseconds; at += how.everyMs) {
    const pids = pidsAt(host, index, Math.min(at, host.milliseconds - 1));
    if (at > 0 && random.next() < how.lostShare) continue;
    lines.push({
      t: seconds(at),
      ...energyOf(how, power, at, random),
      ...activityOf(how, gpu, phase, last, at, random),
      ...(how.activity === "rings" ? { power_ring: powerRing(power, last, at, random) } : {}),
      mem_used_bytes: 2e9 + 30e9 * Math.min(pids.length, 2),
      ...(how.processes ? { processes: pids.map((pid) => processOf(regime, pid)) } : {}),
      ...(how.processShares ? { process_utilization: processShares(gpu, phase, last, at, random) } : {}),
    });
    last = at;
  }
  return lines;
}

function seconds(ms: number): number {
  return Number((origin + ms / 1000).toFixed(6));
}

function mean(values: Float32Array, from: number, to: number): number {
  const start = Math.max(0, from);
  if (to <= start) return values[Math.min(start, values.length - 1)] as number;
  let sum = 0;
  for (let ms = start; ms < to; ms++) sum += values[ms] as number;
  return sum / (to - start);
}

const counters = new WeakMap<Float32Array, Float64Array>();

/** Millijoules since the start, at the last 100 ms before `at`. */
function counterAt(power: Float32Array, at: number): number {
  let sums = counters.get(power);
  if (sums === undefined) {
    sums = new Float64Array(power.length + 1);
    for (let ms = 0; ms < power.length; ms++) sums[ms + 1] = (sums[ms] as number) + (power[ms] as number);
    counters.set(power, sums);
  }
  return Math.round(5_000_000 + (sums[Math.floor(at / 100) * 100] as number));
}

function energyOf(how: GpuReading, power: Float32Array, at: number, random: Random): object {
  const average = mean(power, at - 1000, at) * (1 + 0.002 * random.normal());
  return {
    ...(how.counter ? { energy_mj: counterAt(power, at) } : {}),
    power_average_mw: Math.round(average * 1000),
    ...(how.activity === "rings" ? { power_instant_mw: Math.round(mean(power, at - 20, at) * 1000) } : {}),
  };
}

function activityOf(
  how: GpuReading,
  gpu: GpuTruth,
  phase: number,
  last: number,
  at: number,
  random: Random,
): object {
  const ends: number[] = [];
  const newest = at - ((at - phase + windowMs) % windowMs);
  for (
    let end = newest;
    end > last - windowMs && end >= windowMs && ends.length < utilizationKept;
    end -= windowMs
  )
    ends.unshift(end);
  const percent = (end: number): number => Math.round(100 * mean(gpu.busy, end - windowMs, end));
  const now = newest >= windowMs ? percent(newest) : 0;
  if (how.activity === "window") return { gpu_util_pct: now };
  if (how.activity === "mean")
    return { gpm: { graphics_util_pct: Number((100 * mean(gpu.busy, last, at)).toFixed(2)) } };
  const fresh = ends.filter((end) => end > last && random.next() >= how.lostWindows);
  return { gpu_util_pct: now, util_ring: fresh.map((end) => [seconds(end), percent(end)]) };
}

function powerRing(power: Float32Array, last: number, at: number, random: Random): number[][] {
  const points: number[][] = [];
  for (let end = Math.max(last + 20, at - 20 * powerKept); end <= at; end += 20)
    points.push([
      seconds(end),
      Math.round(1000 * mean(power, end - 20, end) * (1 + 0.015 * random.normal())),
    ]);
  return points;
}

/** The newest sample of each process: each window credits one process that ran in it, by chance. */
function processShares(gpu: GpuTruth, phase: number, last: number, at: number, random: Random): object[] {
  const newest = new Map<number, object>();
  for (let end = at - ((at - phase + windowMs) % windowMs); end > last && end >= windowMs; end -= windowMs) {
    const worked = [...gpu.ran.subarray(end - windowMs, end).filter((index) => index > 0)];
    if (worked.length === 0) continue;
    const ran = random.pick(worked);
    const pid = gpu.pids[ran - 1] as number;
    if (newest.has(pid)) continue;
    let share = 0;
    for (let ms = end - windowMs; ms < end; ms++) if (gpu.ran[ms] === ran) share += gpu.busy[ms] as number;
    newest.set(pid, {
      pid,
      timestamp_us: (origin + end / 1000) * 1e6,
      sm_util_pct: Math.round((100 * share) / windowMs),
    });
  }
  return [...newest.values()];
}

/** MIG: activity per instance, energy of the board alone. */
function writeMig(
  regime: Regime,
  folder: string,
  gpus: readonly GpuTruth[],
  powers: readonly Float32Array[],
  slices: readonly number[],
  uuid: (index: number) => string,
  random: Random,
): void {
  const board = "GPU-0000000b-0000-4000-8000-000000000000";
  const total = boardPower(regime, powers);
  const lines = gpuLines(
    { ...regime, gpus: { ...regime.gpus, activity: "mean", processes: false, processShares: false } },
    { ...(gpus[0] as GpuTruth), busy: new Float32Array(total.length) },
    total,
    0,
    random,
  ).map((line) => ({ ...line, gpm: undefined, mem_used_bytes: undefined }));
  writeLines(folder, `gpu-${board}.jsonl`, [device(regime, board, {}), ...lines]);
  gpus.forEach((gpu, index) => {
    const own = gpuLines(regime, gpu, powers[index] as Float32Array, index, random).map((line) => ({
      ...line,
      energy_mj: undefined,
      power_average_mw: undefined,
    }));
    const more = { parent: board, weight: (slices[index] as number) / 7 };
    writeLines(folder, `gpu-${uuid(index)}.jsonl`, [device(regime, uuid(index), more), ...own]);
  });
}

function boardPower({ host }: Regime, powers: readonly Float32Array[]): Float32Array {
  const total = new Float32Array(host.milliseconds);
  const floor = host.gpus[0]?.floorWatts ?? 0;
  // Each instance's power holds the whole floor: the board's is counted once.
  for (let ms = 0; ms < total.length; ms++)
    total[ms] = powers.reduce((sum, power) => sum + (power[ms] as number) - floor, floor);
  return total;
}

function pageLines(regime: Regime, engine: Engine, truth: EngineTruth, random: Random): object[] {
  const how = regime.pages[engine.id] as PageReading;
  const lines: object[] = [];
  const copies = copiesOf(how, random);
  let sent = engine.from + random.whole(50, how.pollMs - 1);
  const end = Math.min(regime.host.milliseconds, engine.to ?? Number.POSITIVE_INFINITY);
  while (sent + how.answerMs < end) {
    const answer = Math.max(2, Math.round(how.answerMs * random.between(0.9, 1.1)));
    const read = sent + Math.max(1, Math.round(answer / 2));
    if (how.restart !== undefined && read >= how.restart.from && read < how.restart.to) {
      lines.push({ t_sent: seconds(sent), t: seconds(sent + answer), error: "connect ECONNREFUSED" });
      sent += how.pollMs;
      continue;
    }
    const shown = copies(read);
    if (how.lostPolls !== undefined && random.next() < how.lostPolls) {
      lines.push({ t_sent: seconds(sent), t: seconds(sent + answer), error: "read ETIMEDOUT" });
      sent += how.pollMs;
      continue;
    }
    lines.push({
      t_sent: seconds(sent),
      t: seconds(sent + answer),
      t_at: seconds(read),
      family: "engine",
      ...(how.activeTime ? { active_nanos: countersAt(truth, shown).activeMs * 1e6 } : {}),
      ...(how.phaseTimes ? { phase_times: phaseTimesAt(truth, shown) } : {}),
      readings: readingsAt(how, engine, truth, shown, random),
    });
    sent = Math.max(sent + how.pollMs + random.whole(-20, 20), sent + answer);
  }
  return lines;
}

/** Returns of when the page is that an answer shows, by the instants at which answers are read, in order. */
function copiesOf(how: PageReading, random: Random): (readAt: number) => number {
  const { onDemand = false, refreshMs, replicas = 1 } = how;
  const phases = Array.from({ length: replicas }, () => random.whole(0, Math.max(0, refreshMs - 1)));
  if (refreshMs === 0) return (readAt) => readAt;
  const madeAt = phases.map(() => Number.NEGATIVE_INFINITY);
  let turn = 0;
  return (readAt) => {
    const replica = turn++ % replicas;
    if (!onDemand) {
      const age = (readAt - (phases[replica] as number) + refreshMs) % refreshMs;
      return Math.max(0, readAt - age);
    }
    if (readAt - (madeAt[replica] as number) >= refreshMs) madeAt[replica] = readAt;
    return madeAt[replica] as number;
  };
}

function countersAt({ counters }: Pick<EngineTruth, "counters">, ms: number): Counters {
  let low = 0;
  let high = counters.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((counters[middle] as Counters).at <= ms) low = middle;
    else high = middle - 1;
  }
  return counters[low] as Counters;
}

/** Counters of a run that began when they stood at `before`. */
function since(counters: Counters, before: Counters | undefined): Counters {
  if (before === undefined) return counters;
  const less = Object.entries(counters).map(([key, value]) => [key, value - before[key as keyof Counters]]);
  return { ...(Object.fromEntries(less) as unknown as Counters), at: counters.at };
}

function phaseTimesAt(truth: EngineTruth, ms: number): object {
  const { decodeSeconds, finished, prefillSeconds } = countersAt(truth, ms);
  const nanos = (seconds: number): number => Math.round(seconds * 1e9);
  return { requests: finished, prefillNanos: nanos(prefillSeconds), decodeNanos: nanos(decodeSeconds) };
}

function readingsAt(
  how: PageReading,
  engine: Engine,
  truth: EngineTruth,
  ms: number,
  random: Random,
): object[] {
  const isAfter = how.restart !== undefined && ms >= how.restart.to;
  const before = isAfter ? countersAt(truth, how.restart.to) : undefined;
  const counters = since(countersAt(truth, ms), before);
  const finish = how.kind === "finish";
  const running = truth.running.map((rank) => rank[Math.min(ms, rank.length - 1)] as number);
  const all = running.reduce((sum, count) => sum + count, 0);
  const gauge = how.gauge ? { running: all, waiting: truth.waiting[ms] ?? 0 } : {};
  const durations = {
    request_duration: {
      bounds: [1, 10, 60],
      counts: [counters.finished, 0, 0, 0],
      sum: counters.durationSeconds + frontEndSeconds * counters.finished,
      count: counters.finished,
    },
    time_to_first_token: {
      bounds: [1],
      counts: [counters.firstTokens, 0],
      sum: counters.firstTokenSeconds + frontEndSeconds * counters.firstTokens,
      count: counters.firstTokens,
    },
  };
  return [
    {
      role: "combined",
      input_unsplit: finish ? counters.finishedInput : counters.input,
      output: finish ? counters.finishedOutput : counters.output,
      requests: { ok: counters.finished },
      volume: how.kind,
      epoch: isAfter ? "e1" : "e0",
      epoch_began: seconds(isAfter ? (how.restart?.to ?? 0) : engine.from),
      ...gauge,
      ...(how.durations ? { latencies: durations } : {}),
      ...(how.ranks === true ? { ranks: ranksAt(how, truth, ms, random) } : {}),
    },
  ];
}

/** What the page says of each rank; now and then a rank's series are missing. */
function ranksAt(how: PageReading, truth: EngineTruth, ms: number, random: Random): object[] {
  const finish = how.kind === "finish";
  const lost = random.next() < (how.lostRanks ?? 0) ? random.whole(0, truth.rankCounters.length - 1) : -1;
  return truth.rankCounters.flatMap((counters, rank) => {
    if (rank === lost) return [];
    const counted = countersAt({ counters }, ms);
    const running = truth.running[rank]?.[Math.min(ms, truth.active.length - 1)];
    return {
      rank: String(rank),
      input_unsplit: finish ? counted.finishedInput : counted.input,
      output: finish ? counted.finishedOutput : counted.output,
      ...(how.gauge ? { running } : {}),
      ...(how.activeTime ? { active_nanos: counted.activeMs * 1e6 } : {}),
    };
  });
}

function truthOf(
  regime: Regime,
  engines: readonly EngineTruth[],
  gpus: readonly GpuTruth[],
  powers: readonly Float32Array[],
  uuid: (index: number) => string,
): Truth {
  const { host } = regime;
  const board = regime.mig === undefined ? undefined : boardPower(regime, powers);
  const gpuTruth = gpus.map((_, index) => {
    const active = new Uint8Array(host.milliseconds);
    host.engines.forEach((engine, at) => {
      engine.ranks.forEach((rank, lane) => {
        if (!rank.gpus.includes(index)) return;
        const own = engines[at]?.rankActive[lane] as Uint8Array;
        for (let ms = 0; ms < active.length; ms++) if (own[ms] === 1) active[ms] = 1;
      });
    });
    const all = (power: Float32Array): number =>
      (mean(power, 0, host.milliseconds) * host.milliseconds) / 1000;
    const power = board ?? (powers[index] as Float32Array);
    let activeJoules = 0;
    for (let ms = 0; ms < active.length; ms++)
      activeJoules += ((active[ms] as number) * (power[ms] as number)) / 1000;
    return [uuid(index), { active, joules: all(power), activeJoules }] as const;
  });
  const servers = host.engines.map((engine, at) => {
    const truth = engines[at] as EngineTruth;
    const last = truth.counters.at(-1) as Counters;
    const finish = regime.pages[engine.id]?.kind === "finish";
    return [
      engine.id,
      {
        active: truth.active,
        inputTokens: finish ? last.finishedInput : last.input,
        outputTokens: finish ? last.finishedOutput : last.output,
        joules: truth.joules.prefill + truth.joules.decode + floorJoules(host, engine, regime.mig),
        prefill: phaseOf("prefill", regime, engine, truth),
        decode: phaseOf("decode", regime, engine, truth),
      },
    ] as const;
  });
  return {
    lengthSeconds: host.milliseconds / 1000,
    gpus: Object.fromEntries(gpuTruth),
    servers: Object.fromEntries(servers),
  };
}

function phaseOf(
  phase: "prefill" | "decode",
  { host, mig }: Regime,
  engine: Engine,
  truth: EngineTruth,
): PhaseTruth {
  const seconds = truth.activeMs[phase] / 1000;
  const gpu = engine.ranks[0]?.gpus[0] ?? 0;
  const share = mig === undefined ? 1 : (mig[gpu] as number) / 7;
  const holders = residents(host, gpu, host.milliseconds - 1).length;
  const floorWatts = ((host.gpus[gpu]?.floorWatts ?? 0) * share) / holders;
  return { seconds, joules: truth.joules[phase] + floorWatts * seconds };
}

/** An equal part of what holding each of its GPUs cost while it was there; by slices under MIG. */
function floorJoules(host: Host, engine: Engine, mig: Regime["mig"]): number {
  let joules = 0;
  for (const gpu of new Set(engine.ranks.flatMap(({ gpus }) => gpus))) {
    const held = holders(host, gpu);
    const share = mig === undefined ? 1 : (mig[gpu] as number) / 7;
    const watts = (host.gpus[gpu]?.floorWatts ?? 0) * share;
    for (let ms = engine.from; ms < Math.min(host.milliseconds, engine.to ?? ms + 1); ms++)
      joules += watts / (held[ms] as number) / 1000;
  }
  return joules;
}
