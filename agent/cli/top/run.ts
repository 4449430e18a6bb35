// Carries `tokenwatt top` out: which agents, and whether a screen, one frame or JSON.
import type { View, ViewHistory } from "../../export/page/view.ts";
import { formatHostPort, isFault, parseHostPort } from "../../platform/address.ts";
import type { Clock } from "../../platform/clock.ts";
import { systemClock } from "../../platform/clock.ts";
import type { ConfigOptions } from "../common/config-options.ts";
import { loadConfigFor } from "../common/config-options.ts";
import { UsageError } from "../common/errors.ts";
import type { Io } from "../common/io.ts";
import { exitCodes, printLine, tell } from "../common/io.ts";
import type { Target } from "./attach.ts";
import { drawFrame } from "./frame.ts";
import { Hosts } from "./hosts.ts";
import { isScreen, lookOf } from "./look.ts";
import type { Host } from "./rows.ts";
import { initialState } from "./screen-state.ts";

/** What `top` is given. */
export interface TopOptions extends ConfigOptions {
  readonly url?: string;
  readonly host?: string;
  readonly once?: boolean;
  readonly json?: boolean;
  readonly wait: number;
}

const PORT = 9464;
/** Where what listens on every address is asked. */
const LOOPBACK: Readonly<Record<string, string>> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
/** Where there is no terminal to ask. */
const PLAIN_SIZE = { columns: 120, rows: 60 };

/** Shows what was asked for. Throws UsageError where no agent can be named. */
export async function runTop(options: TopOptions, io: Io): Promise<void> {
  const targets = await targetsOf(options, io);
  const hosts = new Hosts([...targets.keys()]);
  const clock = systemClock();
  const stop = new AbortController();
  const following = hosts.follow(targets, clock, stop.signal);
  try {
    if (options.json !== true && options.once !== true && isScreen(io.env, io.stdout)) {
      // React's build for development measures every picture.
      process.env["NODE_ENV"] ??= "production";
      const { showScreen } = await import("./terminal.ts");
      await showScreen({ feed: hosts, look: lookOf(io.env, io.stdout) });
      return;
    }
    await untilHeard(hosts, clock, options.wait);
  } finally {
    stop.abort();
    await following;
  }
  const all = hosts.hosts();
  if (options.json === true) for (const host of all) printLine(io, JSON.stringify(lineOf(host)));
  else {
    const columns = io.stdout.columns ?? PLAIN_SIZE.columns;
    const frame = drawFrame({
      hosts: all,
      state: initialState,
      columns,
      rows: PLAIN_SIZE.rows,
      look: lookOf(io.env, io.stdout),
    });
    printLine(io, withoutFooter(frame));
  }
  const silent = all.filter(({ view }) => view === undefined);
  for (const { name, problem } of silent) tell(io, `${name} said nothing: ${problem ?? "no answer"}`);
  if (silent.length > 0) io.setExit(exitCodes.crashed);
}

function lineOf({ history, name, problem, view }: Host): {
  readonly host: string;
  readonly view: View | null;
  readonly history: ViewHistory | null;
  readonly problem: string | null;
} {
  return { host: name, view: view ?? null, history: history ?? null, problem: problem ?? null };
}

/** Keys are of no use on paper. */
function withoutFooter(frame: string): string {
  return frame.split("\n").slice(0, -1).join("\n").trimEnd();
}

/** Waits until every host was heard, or failed, or the time is over. */
async function untilHeard(hosts: Hosts, clock: Clock, waitMs: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const isAll = (): boolean =>
    hosts.hosts().every(({ problem, view }) => view !== undefined || problem !== undefined);
  const cancel = hosts.onChange(() => isAll() && resolve());
  const cancelTimer = clock.at(clock.now() + waitMs * 1e6, resolve);
  await promise;
  cancel();
  cancelTimer();
}

async function targetsOf(options: TopOptions, io: Io): Promise<ReadonlyMap<string, Target>> {
  const given = [
    ...(options.url === undefined ? [] : [options.url]),
    ...(options.host ?? "").split(",").map((name) => name.trim()),
  ];
  const named = given.filter((name) => name !== "");
  if (named.length > 0) return new Map(named.map((name) => [shortName(name), targetOf(name)]));
  const { config } = await loadConfigFor(options, io);
  const { listen, tls } = config.export.prometheus;
  const place = parseHostPort(listen);
  if (listen === "" || isFault(place))
    throw new UsageError(
      "Cannot find the agent: export.prometheus.listen is off",
      "name it: `tokenwatt top --url http://localhost:9464`",
    );
  const address = formatHostPort({ ...place, host: LOOPBACK[place.host] ?? place.host });
  const url = `${tls === undefined ? "http" : "https"}://${address}`;
  return new Map([["this host", { url, isOwnHost: true }]]);
}

function targetOf(name: string): Target {
  if (/^https?:\/\//.test(name)) {
    if (!URL.canParse(name))
      throw new UsageError(`Cannot read --url ${JSON.stringify(name)}: wanted http://host:port`);
    return { url: name, isOwnHost: false };
  }
  const place = parseHostPort(
    name.includes(":") && !/^[0-9a-f:]+$/i.test(name) ? name : formatHostPort({ host: name, port: PORT }),
  );
  if (isFault(place))
    throw new UsageError(`Cannot read the host ${JSON.stringify(name)}: wanted ${place.wanted}`, place.hint);
  return { url: `http://${formatHostPort(place)}`, isOwnHost: false };
}

function shortName(name: string): string {
  return name.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
}
