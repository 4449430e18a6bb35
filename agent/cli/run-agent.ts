// Runs the daemon with its signals, until it is asked to stop, its time is over or only a restart helps.
import { unlinkSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../config/load.ts";
import type { Agent } from "../daemon/agent.ts";
import { startAgent } from "../daemon/agent.ts";
import { every, systemClock } from "../platform/clock.ts";
import { fileFacts } from "../platform/files.ts";
import type { Log } from "../platform/log.ts";
import { createLog } from "../platform/log.ts";
import { judgeMemoryLimit, memoryLimitBytes } from "../platform/memory-limit.ts";
import { keepProgramPagesFew } from "../platform/own-process.ts";
import { nameProcess } from "../platform/process-name.ts";
import type { ServiceManager } from "../platform/service-manager.ts";
import { openServiceManager } from "../platform/service-manager.ts";
import { writePrivateFile } from "../store/private-files.ts";
import { stateRemedy } from "../store/state-folder.ts";
import type { ConfigOptions } from "./common/config-options.ts";
import { loadUsableConfigFor } from "./common/config-options.ts";
import type { Io } from "./common/io.ts";
import { exitCodes } from "./common/io.ts";
import type { StopCause } from "./common/until-stopped.ts";
import { untilStopped } from "./common/until-stopped.ts";
import { ChildScreen } from "./live/child-screen.ts";
import { LiveSession } from "./live/session.ts";

/** Metering ends, data is committed and sent within this time of a SIGTERM. */
const FLUSH_MS = 7000;
/** GPUs and servers come and go: the status line follows them. */
const STATUS_MS = 30_000;
/** Closing sources and files after the flush. */
const STOP_MS = 3000;

/** What `run` and the bare `tokenwatt` are given. */
export interface RunOptions extends ConfigOptions {
  readonly duration?: number;
  readonly strict?: boolean;
  readonly json?: boolean;
  /** `false` leaves a terminal to the log. */
  readonly screen?: boolean;
}

/** Runs the agent; resolves when it has stopped. Throws ConfigError or SourceError when it cannot start. */
export async function runAgent(options: RunOptions & { readonly live?: boolean }, io: Io): Promise<void> {
  const { catalogue, config, file, policy } = await loadUsableConfigFor(options, io);
  nameProcess("tokenwatt");
  // Whatever is made from here on is for the user and its group.
  process.umask(0o027);
  const clock = systemClock();
  const screen = options.json === true || options.screen === false ? undefined : ChildScreen.open(io);
  const log = createLog(config.logLevel, screen?.logLine);
  const origin = clock.now();
  const narrow = judgeMemoryLimit(memoryLimitBytes());
  if (narrow !== undefined)
    log.error("memory limit is too small", { cause: narrow.seen, hint: narrow.remedy });
  const json = options.json === true || io.stdout.isTTY !== true;
  const watching = screen === undefined && (options.json === true || options.live === true);
  const until = options.duration === undefined ? undefined : origin + options.duration * 1e6;
  // No screen shows a daemon: it keeps no minute of intervals and no totals beside its ledger.
  const session = watching || until !== undefined ? new LiveSession({ io, json, clock, origin }) : undefined;
  const manager = await openServiceManager({ env: io.env, clock, log });
  const starting = startAgent({
    config,
    catalogue,
    policy,
    clock,
    log,
    env: io.env,
    origin,
    strict: options.strict ?? false,
    configFile: file === undefined ? undefined : fileFacts(file),
    onInterval: (interval) => session?.addInterval(interval),
  });
  starting.catch(() => screen?.close(clock));
  const agent = await starting;
  const pidFile = writePidFile(config.stateDir, log);
  handleReload(agent, { options, io, configFile: file }, log, manager);
  handleRelease(agent, log);
  manager.ready(summary(agent));
  const cancels = [
    every(clock, STATUS_MS, () => manager.status(summary(agent))),
    keepProgramPagesFew(clock, log),
  ];
  if (watching) session?.show(agent, () => undefined);
  screen?.show(agent.feed, () => process.kill(process.pid, "SIGINT"));
  const forced = Promise.withResolvers<void>();
  const cause = await untilStopped(clock, until, agent, () => {
    log.warn("stopping at once on a second signal");
    forced.resolve();
  });
  await screen?.close(clock);
  log.info("stopping", describe(cause));
  for (const cancel of cancels) cancel();
  manager.stopping(FLUSH_MS + STOP_MS);
  session?.stop();
  // A source stuck in its driver must not keep the process: what was committed is on disk, the spool sends it later.
  await Promise.race([agent.stop({ flushMs: FLUSH_MS }), forced.promise, clock.sleep(FLUSH_MS + STOP_MS)]);
  if (pidFile !== undefined) removeFile(pidFile);
  session?.summary(agent, {});
  log.info("stopped", agent.exports.status());
  manager.close();
  if (cause.why === "restart") io.setExit(exitCodes.restart);
}

/** The line `systemctl status` shows: what is metered, and what needs somebody. */
function summary(agent: Agent): string {
  const { gpu, intake } = agent.pipeline;
  const { gpus, servers } = intake;
  // GPUs of an earlier run are expected, and not read yet.
  const isRead = gpu !== undefined && gpus.size > 0;
  const durable = agent.exports.status()["durable"] === true;
  const parts = [
    isRead ? `${gpus.size} GPUs` : "no GPU can be read",
    `${servers.size} servers`,
    `OTLP to ${agent.exports.destination ?? "nowhere"}`,
    ...(durable ? [] : ["NOTHING SURVIVES A RESTART"]),
  ];
  return `${parts.join(", ")}${isRead && durable ? "" : ": see `tokenwatt doctor`"}`;
}

function handleReload(
  agent: Agent,
  { options, io, configFile }: { options: RunOptions; io: Io; configFile: string | undefined },
  log: Log,
  manager: ServiceManager,
): void {
  process.on("SIGHUP", async () => {
    manager.reloading();
    try {
      const { catalogue, config, file, policy } = await loadUsableConfigFor(options, io);
      const facts = file === undefined ? undefined : fileFacts(file);
      const { applied, needRestart } = await agent.reload(config, catalogue, facts, policy);
      log.info("configuration reloaded", { applied, needRestart });
    } catch (error) {
      const problems = error instanceof ConfigError ? error.problems : (error as Error).message;
      log.error("configuration refused, the old one stays in force", { problems });
      agent.noteRefused(configFile === undefined ? undefined : fileFacts(configFile));
    }
    manager.ready(summary(agent));
  });
}

function handleRelease(agent: Agent, log: Log): void {
  process.on("SIGUSR2", () => {
    const act = agent.released ? agent.resumeGpus() : agent.releaseGpus();
    act.catch((error: Error) => log.error("GPU release failed", { cause: error.message }));
  });
}

/** So that `tokenwatt signal` finds the daemon; a folder that cannot be written costs only that. */
function writePidFile(stateDir: string, log: Log): string | undefined {
  const file = join(stateDir, "tokenwatt.pid");
  try {
    writePrivateFile(file, `${process.pid}\n`);
    return file;
  } catch (error) {
    log.warn("pid file cannot be written", {
      cause: (error as Error).message,
      hint: stateRemedy(error),
    });
    return undefined;
  }
}

function removeFile(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // It is gone already, or the folder is: nothing is left to undo.
  }
}

function describe(cause: StopCause): Readonly<Record<string, unknown>> {
  if (cause.why === "restart") return { why: "restart", cause: cause.error.message, hint: cause.error.hint };
  return cause;
}
