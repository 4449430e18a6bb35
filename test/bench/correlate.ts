// The correlator at the size of a large host: 16 GPUs with driver rings and 32 servers, two on each GPU, with pages polled
// each second. One tick takes a second's readings in and settles an interval; the bar is 2 ms. All readings come at once, and
// then each page at its own time with an attempt to settle after it, as in a running agent.
import { GCProfiler } from "node:v8";
import { Correlator } from "../../agent/correlate/correlator.ts";
import type { GpuSample, Ring } from "../../agent/model.ts";

const second = 1_000_000_000;
const [gpuCount, serverCount, seconds, warm] = [16, 32, 900, 100];
/** A daemon runs for months and compiles for minutes: what it costs then is measured from this tick on. */
const settledAfter = 3000;
/** Ticks after those that are measured, in which collections are watched: that takes time itself. */
const watchedTicks = 300;

const gpus = Array.from({ length: gpuCount }, (_, index) => `GPU-${index}`);
measure("at once", 0);
measure("30 ms apart", 30_000_000);
measure("30 ms apart, nine servers of ten at rest", 30_000_000, Math.round(0.9 * gpuCount));

/** A host that is played second by second. */
interface Played {
  readonly correlator: Correlator;
  readonly apartNanos: number;
  /** From this GPU on they are idle, and so are their servers. */
  readonly busyGpus: number;
  readonly tokens: number[];
  tick: number;
}

function measure(how: string, apartNanos: number, idleGpus = 0): void {
  const tokens = Array.from({ length: serverCount }, () => 0);
  const busyGpus = gpuCount - idleGpus;
  const played: Played = { correlator: host(), apartNanos, busyGpus, tokens, tick: 1 };
  playTo(played, warm);
  const milliseconds = processorTime(played, seconds + 1);
  console.log(
    `correlate, pages ${how}: ${milliseconds.toFixed(2)} ms of processor time a tick of ${gpuCount} GPUs and ` +
      `${serverCount} servers, bar 2 ms`,
  );
  playTo(played, settledAfter);
  const settled = processorTime(played, settledAfter + seconds - warm);
  console.log(
    `  after ${Math.round(settledAfter / 60)} minutes, once V8 has compiled: ${settled.toFixed(2)} ms`,
  );
  watchCollections(played);
}

/** Milliseconds a tick until `until`. Not wall time: other programs do not count. All threads: V8 marks and compiles beside. */
function processorTime(played: Played, until: number): number {
  const [began, ticks] = [process.cpuUsage(), until - played.tick];
  playTo(played, until);
  return millisecondsOf(process.cpuUsage(began)) / ticks;
}

/** Prints how much of the ticks that follow are collections, and what other threads take beside. */
function watchCollections(played: Played): void {
  const profiler = new GCProfiler();
  const [all, own, began] = [process.cpuUsage(), process.threadCpuUsage(), performance.now()];
  profiler.start();
  playTo(played, played.tick + watchedTicks);
  const wallMs = performance.now() - began;
  const { statistics } = profiler.stop();
  const ownMs = millisecondsOf(process.threadCpuUsage(own));
  const allMs = millisecondsOf(process.cpuUsage(all));
  let [young, youngMs, full, fullMs, grown] = [0, 0, 0, 0, 0];
  for (const { afterGC, beforeGC, cost, gcType } of statistics) {
    if (gcType === "Scavenge") {
      young++;
      youngMs += cost / 1000;
      grown += Math.max(0, oldBytes(afterGC) - oldBytes(beforeGC));
    } else {
      if (gcType === "MarkSweepCompact") full++;
      fullMs += cost / 1000;
    }
  }
  // Collections are timed by the wall: their share is that of the wall.
  const share = Math.round((100 * (youngMs + fullMs)) / wallMs);
  const percent = (milliseconds: number): string => `${Math.round((100 * milliseconds) / wallMs)} %`;
  console.log(
    `  its own thread ${(ownMs / watchedTicks).toFixed(2)} ms, ${share} % of that collections: in 100 ticks ` +
      `${perHundred(young)} of what is young, ${percent(youngMs)}, and ${perHundred(full)} of all, ${percent(fullMs)}; ` +
      `${Math.round(grown / 1024 / watchedTicks)} KB a tick grow old; ` +
      `other threads, marking and compiling, ${((allMs - ownMs) / watchedTicks).toFixed(2)} ms`,
  );
}

function perHundred(count: number): string {
  return ((100 * count) / watchedTicks).toFixed(1);
}

function millisecondsOf({ system, user }: NodeJS.CpuUsage): number {
  return (system + user) / 1000;
}

/** What is no longer young. */
function oldBytes({
  heapSpaceStatistics,
}: {
  readonly heapSpaceStatistics: readonly SpaceStatistics[];
}): number {
  let bytes = 0;
  for (const { spaceName, spaceUsedSize } of heapSpaceStatistics)
    if (!spaceName.startsWith("new_")) bytes += spaceUsedSize;
  return bytes;
}

interface SpaceStatistics {
  readonly spaceName: string;
  readonly spaceUsedSize: number;
}

function playTo(played: Played, until: number): void {
  for (; played.tick < until; played.tick++) play(played, played.tick * second);
}

function host(): Correlator {
  const correlator = new Correlator({ origin: 0, intervalNanos: second, gpuPollMs: 1000 });
  correlator.setGpus(
    gpus.map((uuid, index) => ({ uuid, index, name: "H100", weight: 1, powerLimitWatts: 700 })),
    0,
  );
  correlator.setServers(
    Array.from({ length: serverCount }, (_, index) => ({
      ...{ id: `s${index}`, type: "vllm", family: "engine" as const, address: "" },
      ...{ pollMs: 1000, pids: [index + 1] },
    })),
    0,
  );
  return correlator;
}

/** Hands in a second's readings; where pages come apart, settles after each of them. */
function play({ apartNanos, busyGpus, correlator, tokens }: Played, at: number): void {
  for (let gpu = 0; gpu < gpuCount; gpu++) correlator.acceptGpu(sampleOf(gpu, at, gpu < busyGpus));
  for (let server = 0; server < serverCount; server++) {
    const gpu = server % gpuCount;
    const busy = gpu < busyGpus && busyRatio(gpu, at) > 0;
    tokens[server] = (tokens[server] as number) + (busy ? 900 : 0);
    const read = apartNanos === 0 ? at - 1_000_000 * server : at + apartNanos * server;
    const poll = { at: read, inputTokens: 0, outputTokens: tokens[server] as number };
    correlator.acceptTokens(`s${server}`, { ...poll, inFlight: busy ? 3 : 0, progress: "step" }, []);
    if (apartNanos > 0) correlator.settle(read);
  }
  correlator.settle(at + apartNanos * (serverCount - 1));
}

/** Busy for four seconds of seven on even GPUs, short requests on odd ones. */
function busyRatio(gpu: number, at: number): number {
  if (gpu % 2 === 0) return at % (7 * second) < 4 * second ? 0.97 : 0;
  return [0, 0.22, 0.1, 0, 0.44][Math.floor(at / 200_000_000) % 5] as number;
}

function sampleOf(gpu: number, at: number, isUsed: boolean): GpuSample {
  const pids = [gpu + 1, gpu + 17];
  return {
    ...{ gpu: gpus[gpu] as string, at, energyMillijoules: (at / second) * 300_000, powerWatts: 300 },
    utilizationRing: ringOf(5, at, 200_000_000, (instant) => (isUsed ? busyRatio(gpu, instant) : 0)),
    powerRing: ringOf(50, at, 20_000_000, () => 300),
    processes: pids.map((pid) => ({ pid, type: "compute" as const })),
    processShares: isUsed ? pids.map((pid) => ({ pid, at, smRatio: 0.4 })) : [],
  };
}

/** The points of a driver's ring up to an instant. */
function ringOf(points: number, to: number, apart: number, valueAt: (at: number) => number): Ring {
  const instants = Array.from({ length: points }, (_, place) => to - (points - 1 - place) * apart);
  return { instants, values: instants.map(valueAt) };
}
