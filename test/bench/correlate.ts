// The correlator at the size of a large host: 16 GPUs with driver rings and 32 servers, two on each GPU, with pages polled
// each second. One tick takes a second's readings in and settles an interval; the bar is 2 ms. All readings come at once, and
// then each page at its own time with an attempt to settle after it, as in a running agent.
import type { PerformanceEntry } from "node:perf_hooks";
import { constants, PerformanceObserver } from "node:perf_hooks";
import { Correlator } from "../../agent/correlate/correlator.ts";
import type { GpuSample } from "../../agent/model.ts";

const second = 1_000_000_000;
const [gpuCount, serverCount, seconds, warm] = [16, 32, 900, 100];

const gpus = Array.from({ length: gpuCount }, (_, index) => `GPU-${index}`);
let scavenges = 0;
const observer = new PerformanceObserver((list) => countScavenges(list.getEntries()));
observer.observe({ entryTypes: ["gc"] });
await measure("at once", 0);
await measure("30 ms apart", 30_000_000);
observer.disconnect();

async function measure(how: string, apartNanos: number): Promise<void> {
  const correlator = host();
  const tokens = Array.from({ length: serverCount }, () => 0);
  let began = process.cpuUsage();
  for (let tick = 1; tick <= seconds; tick++) {
    if (tick === warm) {
      await counted();
      scavenges = 0;
      began = process.cpuUsage();
    }
    play(correlator, tick * second, apartNanos, tokens);
  }
  // Processor time, not wall time: other programs on the machine do not count.
  const { system, user } = process.cpuUsage(began);
  await counted();
  const milliseconds = (system + user) / 1000 / (seconds - warm);
  const perHundred = (100 * scavenges) / (seconds - warm);
  console.log(
    `correlate, pages ${how}: ${milliseconds.toFixed(2)} ms of processor time a tick of ${gpuCount} GPUs and ` +
      `${serverCount} servers, bar 2 ms; ${perHundred.toFixed(0)} scavenges in 100 ticks`,
  );
}

/** What was collected is told between two turns of the loop. */
async function counted(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  countScavenges(observer.takeRecords());
}

function countScavenges(entries: readonly (PerformanceEntry & { readonly detail?: unknown })[]): void {
  for (const { detail } of entries) {
    const { kind } = detail as { readonly kind?: number };
    if (kind === constants.NODE_PERFORMANCE_GC_MINOR) scavenges++;
  }
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
function play(correlator: Correlator, at: number, apartNanos: number, tokens: number[]): void {
  for (let gpu = 0; gpu < gpuCount; gpu++) correlator.acceptGpu(sampleOf(gpu, at));
  for (let server = 0; server < serverCount; server++) {
    const busy = busyRatio(server % gpuCount, at) > 0;
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

function sampleOf(gpu: number, at: number): GpuSample {
  const pids = [gpu + 1, gpu + 17];
  return {
    ...{ gpu: gpus[gpu] as string, at, energyMillijoules: (at / second) * 300_000, powerWatts: 300 },
    utilizationRing: [4, 3, 2, 1, 0].map((back) => ({
      at: at - back * 200_000_000,
      value: busyRatio(gpu, at - back * 200_000_000),
    })),
    powerRing: Array.from({ length: 50 }, (_, back) => ({ at: at - (49 - back) * 20_000_000, value: 300 })),
    processes: pids.map((pid) => ({ pid, type: "compute" as const })),
    processShares: pids.map((pid) => ({ pid, at, smRatio: 0.4 })),
  };
}
