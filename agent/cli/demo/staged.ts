// A scene made ready: what it gives the agent to read, what its token servers are told, and what is said of it.
import type { ProcessFacts } from "../../correlate/placement.ts";
import { openRecordedGpus, readGpus, recordedSpan } from "../../gpu/replay.ts";
import type { Nanos } from "../../model.ts";
import { runningTime } from "../../recording/position.ts";
import { tokenCounters } from "../../servers/token-counters/index.ts";
import type { GpuSource, ServerSource, SourceContext } from "../../source.ts";
import { demoFolder, demoRecording } from "./recording.ts";
import { sceneGpus, trainingGpu, trainingHolder } from "./scene.ts";
import { openSceneGpus } from "./scene-gpus.ts";
import type { SceneStart } from "./scene-token-server.ts";
import type { DemoStart } from "./token-server.ts";

/** What every scene is made ready with. */
export interface StageOptions {
  /** Where its token servers listen. */
  readonly address: string;
  readonly context: SourceContext;
  readonly origin: Nanos;
  /** Milliseconds into it. */
  readonly from: number;
  readonly until?: Nanos;
  readonly startUnixMs: number;
  readonly durationSeconds?: number;
}

/** A scene that is ready. */
export interface Staged {
  readonly start: DemoStart | SceneStart;
  readonly gpu: GpuSource;
  readonly servers: readonly ServerSource[];
  readonly processes: readonly ProcessFacts[];
  /** What the summary says of it; `to` is known at the end. */
  facts(end: Nanos): Readonly<Record<string, unknown>>;
}

/** One recorded board. */
export function stageSolo(options: StageOptions): Staged {
  const { address, context, durationSeconds, from, origin, startUnixMs, until } = options;
  const recording = readGpus(demoFolder);
  const span = recordedSpan(recording.gpus);
  const running = { ...span, from: Math.min(span.last, span.first + from * 1000), loop: true };
  const time = runningTime({ ...running, origin, ...(until === undefined ? {} : { until }) });
  const entry = tokenCounters.config.parse({ endpoint: address, id: "decoder-8b" });
  return {
    start: {
      ...running,
      gpus: recording.gpus.map((gpu) => gpu.info.uuid),
      startUnixMs,
      ...(durationSeconds === undefined ? {} : { durationSeconds }),
    },
    gpu: openRecordedGpus(recording, time, context, { rings: true }),
    servers: [tokenCounters.open(entry, context)],
    processes: [],
    facts: (end) => ({
      recording: demoRecording,
      from: running.from / 1e6,
      to: (running.from + (end - origin) / 1000) / 1e6,
    }),
  };
}

/** A host of eight. */
export function stageHost({
  address,
  context,
  durationSeconds,
  from,
  origin,
  startUnixMs,
}: StageOptions): Staged {
  const begin = origin - from * 1e6;
  const entry = tokenCounters.config.parse({ endpoint: address, id: "demo" });
  // The process that runs in the recording's piece.
  const pid = 418 + trainingGpu.pids;
  return {
    start: {
      startUnixMs,
      fromSeconds: from / 1000,
      ...(durationSeconds === undefined ? {} : { durationSeconds }),
    },
    gpu: openSceneGpus(sceneGpus, context.clock, begin),
    servers: [tokenCounters.open(entry, context)],
    processes: [{ pid, name: "python3", holder: trainingHolder }],
    facts: (end) => ({ scene: "host", from: from / 1000, to: (end - begin) / 1e9 }),
  };
}
