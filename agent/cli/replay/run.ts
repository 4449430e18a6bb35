// Builds the production pipeline around a recording and a virtual clock; `replay` and the benchmarks run it.

import { loadConfig } from "../../config/load.ts";
import { coreState, createCore } from "../../daemon/accounting.ts";
import { standalone } from "../../daemon/life.ts";
import { Pipeline } from "../../daemon/pipeline.ts";
import { readGpus, recordedSpan, replayBackend } from "../../gpu/replay.ts";
import type { LedgerSnapshot, SettledInterval } from "../../model.ts";
import { virtualClock } from "../../platform/clock.ts";
import { silentLog } from "../../platform/log.ts";
import { listRecording } from "../../recording/files.ts";
import { replayServer } from "../../servers/replay.ts";
import type { ServerSource, SourceContext } from "../../source.ts";

/** What a recording is replayed with. */
export interface RecordingOptions {
  readonly folder: string;
  readonly gpuPollMs: number;
  readonly tokenPollMs: number;
  readonly intervalMs: number;
  readonly configFile?: string;
  /** A broken accounting law throws instead of being booked as unattributed. */
  readonly strict?: boolean;
  /** Called with what was left out of the recording, a text each. */
  readonly warn: (text: string) => void;
  readonly onInterval: (interval: SettledInterval) => void;
}

/** A recording ready to run. */
export interface RecordingRun {
  readonly gpus: readonly string[];
  readonly servers: readonly string[];
  readonly durationSeconds: number;
  /** Wall-clock seconds of an instant, as recorded. */
  readonly seconds: (at: number) => number;
  /** Commits what was metered so far and returns it, as a beat of the export does. */
  commit(): LedgerSnapshot;
  /** Meters the whole recording; resolves when its last interval was handed out. */
  run(): Promise<void>;
}

/** Opens a recording folder. Throws SourceError when it is no recording. */
export async function openRecording(options: RecordingOptions): Promise<RecordingRun> {
  const { gpus, problems, pollMs = 0 } = readGpus(options.folder);
  // Readings a second apart are not to be taken for gaps because they are replayed at a finer beat.
  const gpuPollMs = Math.max(options.gpuPollMs, pollMs);
  for (const problem of problems) options.warn(`left out ${problem}`);
  const { first, last } = recordedSpan(gpus);
  const clock = virtualClock(BigInt(first) * 1000n);
  const end = (last - first) * 1000;
  const tell = (event: string, facts = {}): void => warnOfLine(options.warn, event, facts);
  const log = { ...silentLog, warn: tell, error: tell };
  const context: SourceContext = { clock, log, signal: new AbortController().signal };
  const gpu = await replayBackend.open(
    { path: options.folder, time: "recorded", fromSeconds: 0, loop: false },
    {
      ...context,
      log: silentLog,
    },
  );
  const servers = placed(
    listRecording(options.folder).servers.map((path) =>
      replayServer.open({ path, pollMs: options.tokenPollMs }, context),
    ),
    gpus.map((recorded) => recorded.info.uuid),
  );
  const { config } = loadConfig({ env: {}, file: options.configFile ?? false });
  const core = createCore({
    clock,
    intervalMs: options.intervalMs,
    gpuPollMs,
    correlate: config.correlate,
    series: config.series,
    strict: options.strict ?? false,
  });
  const pipeline = new Pipeline({
    clock,
    log,
    ...core,
    gpuPollMs: options.gpuPollMs,
    tickMs: options.intervalMs,
    inventoryMs: 600_000,
    life: { ...standalone, intervalSettled: options.onInterval },
  });
  return {
    gpus: gpus.map((recorded) => recorded.info.uuid),
    servers: servers.map((server) => server.info.id),
    durationSeconds: end / 1e9,
    seconds: (at) => Number(clock.unixNanos(at) / 1000n) / 1e6,
    commit: () =>
      core.books.commit(clock.unixNanos(pipeline.settledUntil), clock.now(), coreState(core, clock)).snapshot,
    run: async () => {
      await pipeline.start(gpu, servers);
      await clock.advance(end);
      await pipeline.pollAll();
      await pipeline.stop(end);
    },
  };
}

/** A recording's only server without a pid of its own is the one its GPUs were recorded for. */
function placed(servers: readonly ServerSource[], gpus: readonly string[]): readonly ServerSource[] {
  const homeless = servers.filter(({ info }) => info.pids === undefined && info.gpus === undefined);
  if (homeless.length !== 1) return servers;
  return servers.map((source) =>
    source === homeless[0] ? { ...source, info: { ...source.info, gpus } } : source,
  );
}

function warnOfLine(
  warn: (text: string) => void,
  event: string,
  facts: Readonly<Record<string, unknown>>,
): void {
  if (event === "recording line left out") warn(`left out ${String(facts["cause"])}`);
  if (event === "accounting law broken") warn(`accounting law broken: ${String(facts["cause"])}`);
}
