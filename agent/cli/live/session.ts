// Shows a running agent where there is no screen for it: a JSON line each second, or now and then a frame on a terminal that
// can move no cursor; a summary last.

import type { Agent } from "../../daemon/agent.ts";
import type { View } from "../../export/page/view.ts";
import type { Nanos, SettledInterval } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";
import { every } from "../../platform/clock.ts";
import type { Io } from "../common/io.ts";
import { printLine } from "../common/io.ts";
import { ReplayTotals } from "../replay/lines.ts";
import { summaryText } from "../replay/summary.ts";
import { drawFrame } from "../top/frame.ts";
import { lookOf } from "../top/look.ts";
import { initialState } from "../top/screen-state.ts";
import { LiveFigures } from "./figures.ts";
import type { LiveScreen } from "./line.ts";
import { screenLine } from "./line.ts";

/** A screen follows its interval, which come one a second, within this time. */
const REFRESH_MS = 200;
/** Frames below one another are paper: a page of them now and then. */
const FRAME_EVERY = 10;
/** Quotas of a line, those that most is used of. */
const FULLEST = 3;
const PLAIN_SIZE = { columns: 80, rows: 40 };

/** What the demo's receiver counted since its start. */
export interface Received {
  readonly requests: number;
  readonly data_points: number;
  /** Those of them that the agent says of itself: not metering, and not among what it shipped. */
  readonly own_points: number;
  readonly series: number;
  /** Sum of the last values of `tokenwatt.tokens`. */
  readonly tokens: number;
  /** Latest time of any point, seconds since 1970; null before the first. */
  readonly last_time: number | null;
  /** Requests that could not be read. */
  readonly refused: number;
}

/** What a summary says beside the totals. */
export interface SummaryFacts {
  readonly recording?: string;
  readonly scene?: string;
  /** Recorded wall-clock seconds, or seconds into the scene. */
  readonly from?: number;
  readonly to?: number;
  readonly received?: Received;
}

/** What a session shows with. */
export interface LiveSessionOptions {
  readonly io: Io;
  readonly json: boolean;
  readonly clock: Clock;
  /** Elapsed time counts from here. */
  readonly origin: Nanos;
}

/** Collects settled intervals and shows them until stopped. */
export class LiveSession {
  readonly #options: LiveSessionOptions;
  readonly #figures = new LiveFigures();
  readonly #totals = new ReplayTotals();
  #cancel: (() => void) | undefined;
  #settled = 0;

  constructor(options: LiveSessionOptions) {
    this.#options = options;
  }

  /** Takes a settled interval into the screen and the summary. */
  addInterval(interval: SettledInterval): void {
    this.#figures.addInterval(interval);
    this.#totals.addInterval(interval);
    this.#settled++;
  }

  /** Shows the agent from its first settled interval on. */
  show(agent: Agent, received: () => Received | undefined): void {
    const { clock, io, json } = this.#options;
    let shown = 0;
    this.#cancel = every(clock, REFRESH_MS, () => {
      if (this.#settled === shown) return;
      shown = this.#settled;
      if (json) {
        const quotas = this.#view(agent).quotas?.slice(0, FULLEST) ?? null;
        const extra = { quotas, exported: agent.exports.counts, received: received() ?? null };
        printLine(io, screenLine(this.#screen(agent), extra));
      } else if (this.#settled % FRAME_EVERY === 1) printLine(io, this.#frame(agent));
    });
  }

  /** Draws no more. */
  stop(): void {
    this.#cancel?.();
  }

  /** The last line: totals, KPIs and what was shipped. */
  summary(agent: Agent, facts: SummaryFacts): void {
    const { io, json } = this.#options;
    this.#totals.know(agent.pipeline.intake.gpus.keys(), agent.pipeline.intake.servers.keys());
    const line = this.#totals.line() as Readonly<Record<string, unknown>>;
    const { lastTokenSamples } = agent.pipeline.intake;
    const counted = line["servers"] as Record<string, { input_tokens: number; output_tokens: number }>;
    // A gateway counts what engines count once more.
    const servers = Object.entries(counted).flatMap(([id, one]) =>
      lastTokenSamples.get(id)?.family === "gateway" ? [] : [one],
    );
    const sum = (key: "input_tokens" | "output_tokens"): number =>
      servers.reduce((all, one) => all + one[key], 0);
    const exported = agent.exports.counts;
    if (json) {
      const tokens = { input_tokens: sum("input_tokens"), output_tokens: sum("output_tokens") };
      printLine(io, JSON.stringify({ ...line, type: "summary", ...tokens, exported, ...facts }));
      return;
    }
    const seconds = Object.values(line["state_seconds"] as Record<string, number>).reduce(
      (all, one) => all + one,
      0,
    );
    printLine(io, summaryText(line, seconds));
    const { received } = facts;
    const metered = (received?.data_points ?? 0) - (received?.own_points ?? 0);
    const same =
      metered === exported.data_points ? "the same" : `${metered}, as the last request was on its way`;
    const got =
      received === undefined
        ? ""
        : `; the receiver counted ${same}, and ${received.own_points} that the agent says of itself`;
    printLine(io, `\nshipped ${exported.data_points} data points in ${exported.requests} requests${got}`);
  }

  #screen(agent: Agent): LiveScreen {
    const { clock, origin } = this.#options;
    const { gpus, health, lastGpuSamples, servers } = agent.pipeline.intake;
    // A rate needs two readings: before them it is not known, and not 0.
    const isCounted = [...servers.keys()].some((id) => (health.get(`server:${id}`)?.reads ?? 0) > 1);
    return {
      elapsedSeconds: Math.max(0, (clock.now() - origin) / 1e9),
      gpus: [...gpus.values()].map((info) => this.#figures.gpu(info, lastGpuSamples.get(info.uuid))),
      host: this.#figures.host(),
      isCounted,
    };
  }

  #frame(agent: Agent): string {
    const { io } = this.#options;
    const view = this.#view(agent);
    const look = lookOf(io.env, io.stdout);
    const frame = drawFrame({ hosts: [{ name: view.host, view }], state: initialState, ...PLAIN_SIZE, look });
    return `${frame.split("\n").slice(0, -1).join("\n").trimEnd()}\n`;
  }

  #view(agent: Agent): View {
    return (JSON.parse(agent.feed.page().bytes.toString()) as { view: View }).view;
  }
}
