// Runs the demo: two helper processes, the agent, a screen a second, a summary at the end.
// Agent time runs `speed` times as fast as wall time, so powers, rates and intervals keep their meaning.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LoadedConfig } from "../../config/load.ts";
import { loadConfig } from "../../config/load.ts";
import { readNamedFiles } from "../../config/usable.ts";
import { startAgent } from "../../daemon/agent.ts";
import type { GpuRecording } from "../../gpu/replay.ts";
import { openRecordedGpus, readGpus, recordedSpan } from "../../gpu/replay.ts";
import { systemClock } from "../../platform/clock.ts";
import { createLog } from "../../platform/log.ts";
import { runningTime } from "../../recording/position.ts";
import { tokenCounters } from "../../servers/token-counters/index.ts";
import type { SourceContext } from "../../source.ts";
import type { Io } from "../common/io.ts";
import { untilStopped } from "../common/until-stopped.ts";
import { ChildScreen } from "../live/child-screen.ts";
import { LiveSession } from "../live/session.ts";
import type { DemoHelpers, Helper } from "./helpers.ts";
import { demoFolder, demoRecording } from "./recording.ts";
import type { DemoStart } from "./token-server.ts";

/** What a demo is played with. */
export interface DemoRunOptions {
  readonly json?: boolean;
  readonly speed: number;
  readonly duration?: number;
  readonly from: number;
  readonly log: "debug" | "info" | "warn" | "error";
}

/** From the helpers' readiness to the recording's first instant: the token server must have heard of it by then. */
const LEAD_MS = 60;
/** Between two pictures, on the wall clock. */
const VIEW_MS = 1000;
/** After the last instant the token server stands still: one more snapshot of it must arrive. */
const SETTLE_NANOS = 1.2e9;

/** Runs until the duration is over or the process is asked to stop; resolves after the summary. Ends the helpers. */
export async function runDemo(
  options: DemoRunOptions,
  io: Io,
  { receiver, server }: DemoHelpers,
): Promise<void> {
  const faster = options.speed === 1 ? "" : `, ${options.speed} x as fast as recorded`;
  const title = `tokenwatt demo: recorded H100 (${demoRecording})${faster}`;
  const screen = options.json === true ? undefined : ChildScreen.open(io, title);
  const stateDir = mkdtempSync(join(tmpdir(), "tokenwatt-demo-"));
  try {
    const recording = readGpus(demoFolder);
    await Promise.all([server.ready(), receiver?.ready()]);
    const loaded = demoConfig(io, stateDir, receiver?.address);
    await play(options, io, { recording, loaded, server, receiver, screen });
  } finally {
    await screen?.close(systemClock());
    server.kill();
    receiver?.kill();
    rmSync(stateDir, { recursive: true, force: true });
  }
}

interface Parts {
  readonly recording: GpuRecording;
  readonly loaded: LoadedConfig;
  readonly server: Helper;
  readonly receiver: Helper | undefined;
  readonly screen: ChildScreen | undefined;
}

async function play(options: DemoRunOptions, io: Io, parts: Parts): Promise<void> {
  const { loaded, receiver, recording, screen, server } = parts;
  const clock = systemClock({ speed: options.speed });
  const log = createLog(options.log, screen?.logLine);
  const wall = systemClock();
  const origin = clock.now() + LEAD_MS * 1e6 * options.speed;
  const seconds = options.duration === undefined ? undefined : (options.duration / 1000) * options.speed;
  const until = seconds === undefined ? undefined : origin + seconds * 1e9;
  const span = recordedSpan(recording.gpus);
  const running = { ...span, from: Math.min(span.last, span.first + options.from * 1000), loop: true };
  const start: DemoStart = {
    ...running,
    gpus: recording.gpus.map((gpu) => gpu.info.uuid),
    startUnixMs: Number(wall.unixNanos(wall.now()) / 1_000_000n) + LEAD_MS,
    ...(seconds === undefined ? {} : { durationSeconds: seconds }),
  };
  server.send(start);
  const time = runningTime({ ...running, origin, ...(until === undefined ? {} : { until }) });
  const context: SourceContext = { clock, log, signal: new AbortController().signal };
  const entry = tokenCounters.config.parse({ endpoint: server.address, id: "decoder-8b" });
  const session = new LiveSession({
    io,
    json: options.json === true || io.stdout.isTTY !== true,
    clock,
    origin,
  });
  const agent = await startAgent({
    config: loaded.config,
    ...readNamedFiles(loaded),
    clock,
    log,
    env: io.env,
    gpu: openRecordedGpus(recording, time, context, { rings: true }),
    servers: [tokenCounters.open(entry, context)],
    origin,
    stateless: true,
    ...(until === undefined ? {} : { until }),
    onInterval: (interval) => session.addInterval(interval),
    viewMs: VIEW_MS * options.speed,
  });
  screen?.show(agent.feed, () => process.kill(process.pid, "SIGINT"));
  if (screen === undefined)
    session.show(agent, () => {
      void receiver?.report();
      return receiver?.received;
    });
  await untilStopped(clock, until === undefined ? undefined : until + SETTLE_NANOS, agent);
  session.stop();
  await screen?.close(wall);
  const end = await agent.stop(until === undefined ? {} : { at: Math.min(until, clock.now()) });
  await receiver?.report();
  session.summary(agent, {
    recording: demoRecording,
    from: running.from / 1e6,
    to: (running.from + (end - origin) / 1000) / 1e6,
    ...(receiver?.received === undefined ? {} : { received: receiver.received }),
  });
}

function demoConfig(io: Io, stateDir: string, receiver: string | undefined): LoadedConfig {
  const endpoint = receiver === undefined ? [] : [`export.otlp.endpoint=http://${receiver}`];
  const settings = [`stateDir=${stateDir}`, "rates.gpuMs=500", "rates.exportMs=2000", ...endpoint];
  return loadConfig({ env: io.env, file: false, settings });
}
