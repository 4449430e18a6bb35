// The demo's token server, a process of its own: streams a recorded server's counters by tokenwatt.v1 as if it ran now.
// Says `{address}` to its parent once it listens, learns from it when the recording starts, ends with it.
// active_nanos is the union of the recorded requests' times, which an engine that serves this contract knows of itself.
import { systemClock } from "../../platform/clock.ts";
import { readJsonLines } from "../../recording/files.ts";
import type { RunningTrace, TraceTime } from "../../recording/position.ts";
import { runningTime } from "../../recording/position.ts";
import { readServer, totalsAt } from "../../servers/replay.ts";
import type { ServerSnapshot } from "../../servers/token-counters/server.ts";
import { serveTokenCounters } from "../../servers/token-counters/server.ts";
import { ActiveTime } from "./active-time.ts";

/** What the parent gives as the first argument, as JSON. */
export interface DemoServerOptions {
  readonly path: string;
  readonly model: string;
  readonly speed: number;
}

/** The parent's message: the recording runs from this wall-clock instant on. */
export interface DemoStart extends Omit<RunningTrace, "origin" | "until"> {
  readonly startUnixMs: number;
  readonly gpus: readonly string[];
  readonly durationSeconds?: number;
}

process.on("SIGINT", () => {});
process.on("SIGTERM", () => {});
process.on("disconnect", () => process.exit(0));

const options = JSON.parse(process.argv[2] ?? "{}") as DemoServerOptions;
const clock = systemClock({ speed: options.speed });
const server = readServer(options.path);
const active = new ActiveTime(readJsonLines(options.path).lines);
let time: TraceTime | undefined;
/** The first snapshot says where the counters stood when the recording began, so that nothing played is missed. */
let firstAt: number | undefined;
let gpus: readonly string[] = [];

process.on("message", (start: DemoStart) => {
  const origin = clock.now() + (start.startUnixMs - Date.now()) * 1e6 * options.speed;
  const until = start.durationSeconds === undefined ? undefined : origin + start.durationSeconds * 1e9;
  firstAt = origin;
  gpus = start.gpus;
  time = runningTime({ ...start, origin, ...(until === undefined ? {} : { until }) });
});

const service = await serveTokenCounters("127.0.0.1:0", { clock, read });
process.send?.({ address: service.address });

function read(): readonly ServerSnapshot[] {
  if (time === undefined) return [];
  const { micros, pass } = time.position(firstAt ?? clock.now());
  firstAt = undefined;
  const totals = totalsAt(server, micros);
  if (totals === undefined) return [];
  const start = server.starts[totals.run];
  return [
    {
      epochId: `${pass}.${totals.run}`,
      ...(start === undefined ? {} : { epochUptimeNanos: (micros - start) * 1000 }),
      role: "combined",
      family: "engine",
      movement: "step",
      version: "recorded",
      gpus,
      pids: server.pids,
      activeNanos: active.until(micros) * 1000,
      ...(totals.running === undefined ? {} : { running: totals.running }),
      counters: [
        {
          model: options.model,
          tokens: [
            { kind: "input_unsplit", tokens: totals.inputTokens },
            { kind: "output", tokens: totals.outputTokens },
          ],
          requests: { ok: totals.requests },
        },
      ],
    },
  ];
}
