// Runs the demo: helper processes, the agent, a screen of its own or a JSON line a second, a summary at the end.
// Agent time runs `speed` times as fast as wall time, so powers, rates and intervals keep their meaning.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LoadedConfig } from "../../config/load.ts";
import { loadConfig } from "../../config/load.ts";
import { readNamedFiles } from "../../config/usable.ts";
import type { Agent } from "../../daemon/agent.ts";
import { startAgent } from "../../daemon/agent.ts";
import { parseHostPort } from "../../platform/address.ts";
import { systemClock } from "../../platform/clock.ts";
import { createLog } from "../../platform/log.ts";
import type { SourceContext } from "../../source.ts";
import { listenError } from "../checks/port.ts";
import type { Io } from "../common/io.ts";
import { tell } from "../common/io.ts";
import { untilStopped } from "../common/until-stopped.ts";
import { ChildScreen } from "../live/child-screen.ts";
import { LiveSession } from "../live/session.ts";
import type { DemoHelpers } from "./helpers.ts";
import type { DemoOptions } from "./options.ts";
import { recordingsFolder } from "./scene.ts";
import { stageHost, stageSolo } from "./staged.ts";

/** What a demo is played with. */
export interface DemoRunOptions extends DemoOptions {
  readonly speed: number;
  readonly from: number;
}

/** From the helpers' readiness to the scene's first instant: the token servers must have heard of it by then. */
const LEAD_MS = 60;
/** Between two pictures, on the wall clock. */
const VIEW_MS = 1000;
/** After the last instant the token servers stand still: one more snapshot of them must arrive. */
const SETTLE_NANOS = 1.2e9;
/** Ports that are tried where the usual one is taken: the SDKs of OpenTelemetry use it too. */
const PORTS_TRIED = 10;

/** Runs until the duration is over or the process is asked to stop; resolves after the summary. Ends the helpers. */
export async function runDemo(options: DemoRunOptions, io: Io, helpers: DemoHelpers): Promise<void> {
  const stateDir = mkdtempSync(join(tmpdir(), "tokenwatt-demo-"));
  let screen: ChildScreen | undefined;
  try {
    const { listen, note } = await freePort(io);
    screen = options.json === true ? undefined : ChildScreen.open(io, titleOf(options, listen));
    if (note !== undefined && screen === undefined) tell(io, note);
    await Promise.all([helpers.server.ready(), helpers.receiver?.ready()]);
    const loaded = demoConfig(io, options, { stateDir, listen, receiver: helpers.receiver?.address });
    await play(options, io, { loaded, screen, ...helpers });
  } finally {
    await screen?.close(systemClock());
    helpers.server.kill();
    helpers.receiver?.kill();
    rmSync(stateDir, { recursive: true, force: true });
  }
}

interface Parts extends DemoHelpers {
  readonly loaded: LoadedConfig;
  readonly screen: ChildScreen | undefined;
}

async function play(options: DemoRunOptions, io: Io, parts: Parts): Promise<void> {
  const { loaded, receiver, screen, server } = parts;
  const clock = systemClock({ speed: options.speed });
  const log = createLog(options.log, screen?.logLine);
  const wall = systemClock();
  const origin = clock.now() + LEAD_MS * 1e6 * options.speed;
  const seconds = options.duration === undefined ? undefined : (options.duration / 1000) * options.speed;
  const until = seconds === undefined ? undefined : origin + seconds * 1e9;
  const context: SourceContext = { clock, log, signal: new AbortController().signal };
  const staged = (options.scene === "solo" ? stageSolo : stageHost)({
    ...{ address: server.address, context, origin, from: options.from },
    startUnixMs: Number(wall.unixNanos(wall.now()) / 1_000_000n) + LEAD_MS,
    ...(until === undefined ? {} : { until }),
    ...(seconds === undefined ? {} : { durationSeconds: seconds }),
  });
  server.send(staged.start);
  const json = options.json === true || io.stdout.isTTY !== true;
  const session = new LiveSession({ io, json, clock, origin });
  const agent = await startAgent({
    ...{ config: loaded.config, ...readNamedFiles(loaded), clock, log, env: io.env, origin, stateless: true },
    ...{ gpu: staged.gpu, servers: staged.servers, processes: staged.processes },
    ...(until === undefined ? {} : { until }),
    onInterval: (interval) => session.addInterval(interval),
    viewMs: VIEW_MS * options.speed,
  });
  screen?.show(agent.feed, () => process.kill(process.pid, "SIGINT"));
  if (screen === undefined) showLines(agent, session, receiver);
  await untilStopped(clock, until === undefined ? undefined : until + SETTLE_NANOS, agent);
  session.stop();
  await screen?.close(wall);
  const end = await agent.stop(until === undefined ? {} : { at: Math.min(until, clock.now()) });
  await receiver?.report();
  const received = receiver?.received;
  session.summary(agent, { ...staged.facts(end), ...(received === undefined ? {} : { received }) });
}

function showLines(agent: Agent, session: LiveSession, receiver: DemoHelpers["receiver"]): void {
  session.show(agent, () => {
    void receiver?.report();
    return receiver?.received;
  });
}

function titleOf({ scene, speed }: DemoRunOptions, listen: string): string {
  const what = scene === "solo" ? "a recorded H100" : "a host of recorded H100s";
  const faster = speed === 1 ? "" : `, ${speed} x as fast as recorded`;
  return `tokenwatt demo: ${what}${faster}${listen === "" ? "" : `   page: http://${listen}/`}`;
}

interface Places {
  readonly stateDir: string;
  readonly listen: string;
  readonly receiver: string | undefined;
}

function demoConfig(io: Io, { scene }: DemoRunOptions, { listen, receiver, stateDir }: Places): LoadedConfig {
  const given = (key: string, path: string): string[] =>
    scene === "solo" || io.env[key] !== undefined ? [] : [path];
  const settings = [
    ...[
      `stateDir=${stateDir}`,
      "rates.gpuMs=500",
      "rates.exportMs=2000",
      `export.prometheus.listen=${listen}`,
    ],
    ...(receiver === undefined ? [] : [`export.otlp.endpoint=http://${receiver}`]),
    ...given("TOKENWATT_PRICES", `prices=${recordingsFolder}/prices.yaml`),
    ...given("TOKENWATT_POLICY", `policy=${recordingsFolder}/policy.yaml`),
  ];
  return loadConfig({ env: io.env, file: false, settings });
}

/** Where the demo serves its page: where it should, or at the next free port, which is said. One that was asked for is kept. */
async function freePort(io: Io): Promise<{ readonly listen: string; readonly note?: string }> {
  const { listen } = loadConfig({ env: io.env, file: false, settings: [] }).config.export.prometheus;
  const place = parseHostPort(listen);
  if (io.env["TOKENWATT_EXPORT_PROMETHEUS_LISTEN"] !== undefined || !("host" in place)) return { listen };
  for (let port = place.port; port < place.port + PORTS_TRIED; port++) {
    const next = `${place.host}:${port}`;
    if ((await listenError(next)) !== undefined) continue;
    if (port === place.port) return { listen: next };
    return { listen: next, note: `${listen} is taken: the page is at http://${next}/` };
  }
  return {
    listen: `${place.host}:0`,
    note: `${listen} and the ports after it are taken: the log says where the page is`,
  };
}
