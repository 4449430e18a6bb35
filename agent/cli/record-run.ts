// Polls the configured sources at their own pace and hands every reading to a Recorder, until its time is over or a signal.

import type { Config } from "../config/load.ts";
import { hostNames } from "../daemon/host-names.ts";
import { chooseGpu, openServers } from "../daemon/sources.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import { every, systemClock } from "../platform/clock.ts";
import { createLog } from "../platform/log.ts";
import { Recorder } from "../recording/recorder.ts";
import type { GpuSource, ServerSource } from "../source.ts";
import { SourceError } from "../source.ts";

/** What a recording holds. */
export interface Recorded {
  readonly gpus: number;
  readonly servers: number;
  readonly lines: number;
}

/** Records until `durationMs` is over, SIGINT or SIGTERM. Throws SourceError when there is nothing to record. */
export async function record(
  folder: string,
  config: Config,
  options: { readonly mask: boolean; readonly durationMs?: number },
): Promise<Recorded> {
  const clock = systemClock();
  const log = createLog(config.logLevel);
  const stop = new AbortController();
  const context = { clock, log, signal: stop.signal, hostNames: hostNames(config, process.env) };
  const { source: gpu, tried } = await chooseGpu(config, context);
  const servers = openServers(config, context).map(({ source }) => source);
  if (gpu === undefined && servers.length === 0) {
    const reasons = tried.map(({ backend, reason }) => `${backend}: ${reason}`).join("; ");
    throw new SourceError("absent", `Cannot record: no GPU and no server (${reasons})`, {
      hint: "name servers in the configuration, or run it where a GPU is; tokenwatt doctor explains",
    });
  }
  return recordSources({ clock, gpu, servers, folder, gpuMs: config.rates.gpuMs, stop, ...options });
}

/** Records given sources; the part of `record` that tests drive. Exported for its test: which has its own clock and sources. */
export async function recordSources(options: {
  readonly clock: Clock;
  readonly gpu: GpuSource | undefined;
  readonly servers: readonly ServerSource[];
  readonly folder: string;
  readonly gpuMs: number;
  readonly mask: boolean;
  readonly durationMs?: number;
  readonly stop: AbortController;
}): Promise<Recorded> {
  const { clock, gpu, servers, stop } = options;
  const recorder = new Recorder(options.folder, clock, options);
  const cancels: Cancel[] = [];
  const infos = (await gpu?.inventory()) ?? [];
  recorder.addGpus(infos);
  const start = clock.now();
  if (gpu !== undefined)
    cancels.push(every(clock, options.gpuMs, () => pollGpu(gpu, recorder, clock), start));
  for (const server of servers) {
    recorder.addServer(server.info);
    cancels.push(recordServer(server, recorder, clock, start));
  }
  await ended(clock, options.durationMs, stop);
  for (const cancel of cancels) cancel();
  if (gpu !== undefined) await pollGpu(gpu, recorder, clock);
  await Promise.allSettled([gpu?.close(), ...servers.map((server) => server.close())]);
  await recorder.close();
  return { gpus: infos.length, servers: servers.length, lines: recorder.lines };
}

async function pollGpu(gpu: GpuSource, recorder: Recorder, clock: Clock): Promise<void> {
  try {
    const generation = gpu.generation;
    const { samples, gaps } = await gpu.poll();
    if (gpu.generation !== generation) recorder.addGpus(await gpu.inventory());
    for (const sample of samples) recorder.acceptGpu(sample);
    for (const gap of gaps) recorder.acceptGap(gap);
  } catch (error) {
    for (const { uuid } of await gpu.inventory().catch(() => [])) {
      recorder.acceptGap({ source: `gpu:${uuid}`, at: clock.now(), reason: (error as Error).message });
    }
  }
}

function recordServer(server: ServerSource, recorder: Recorder, clock: Clock, start: number): Cancel {
  const gap = (error: unknown): void =>
    recorder.acceptGap({
      source: `server:${server.info.id}`,
      at: clock.now(),
      reason: (error as Error).message,
    });
  if (server.kind === "pull") {
    const poll = (): Promise<void> => server.poll().then((sample) => recorder.acceptPoll(sample), gap);
    return every(clock, server.info.pollMs, poll, start);
  }
  let open = true;
  server
    .run(async (reading) => {
      if (!open) return;
      if ("reason" in reading) recorder.acceptGap(reading);
      else recorder.acceptPoll(reading);
    })
    .catch((error: unknown) => {
      if (open) gap(error);
    });
  return () => {
    open = false;
  };
}

/** Resolves at the end of the time, at a signal of the system or of the caller. */
async function ended(clock: Clock, durationMs: number | undefined, stop: AbortController): Promise<void> {
  const signal = (): void => stop.abort();
  process.once("SIGINT", signal);
  process.once("SIGTERM", signal);
  try {
    await clock.sleep(durationMs ?? 2 ** 30, stop.signal).catch(() => {});
  } finally {
    process.off("SIGINT", signal);
    process.off("SIGTERM", signal);
    stop.abort();
  }
}
