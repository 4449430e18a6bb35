// Shows a running agent: a screen redrawn each second on a terminal, a JSON line each second elsewhere, a summary last.

import type { Agent } from "../../daemon/agent.ts";
import type { Nanos, SettledInterval } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";
import { every } from "../../platform/clock.ts";
import type { Io } from "../common/io.ts";
import { printLine } from "../common/io.ts";
import { ReplayTotals } from "../replay/lines.ts";
import { summaryText } from "../replay/summary.ts";
import { LiveFigures } from "./figures.ts";
import type { LiveScreen } from "./view.ts";
import { renderScreen, screenLine } from "./view.ts";

/** A screen follows its interval, which come one a second, within this time. */
const REFRESH_MS = 200;
const CLEAR = "\x1b[H\x1b[2J\x1b[3J";

/** What the demo's receiver counted since its start. */
export interface Received {
  readonly requests: number;
  readonly data_points: number;
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
  /** Recorded wall-clock seconds. */
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
  show(agent: Agent, title: string, received: () => Received | undefined): void {
    const { clock, io, json } = this.#options;
    let shown = 0;
    this.#cancel = every(clock, REFRESH_MS, () => {
      if (this.#settled === shown) return;
      shown = this.#settled;
      const screen = this.#screen(agent, title, received());
      if (json)
        printLine(io, screenLine(screen, { exported: agent.exports.counts, received: received() ?? null }));
      else io.stdout.write(CLEAR + renderScreen(screen, !("NO_COLOR" in io.env)));
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
    const servers = Object.values(
      line["servers"] as Record<string, { input_tokens: number; output_tokens: number }>,
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
    const got =
      facts.received === undefined
        ? ""
        : `; the receiver counted ${facts.received.data_points}, the agent's metrics of itself included`;
    printLine(io, `\nshipped ${exported.data_points} data points in ${exported.requests} requests${got}`);
  }

  #screen(agent: Agent, title: string, received: Received | undefined): LiveScreen {
    const { clock, origin } = this.#options;
    const { gpus, lastGpuSamples } = agent.pipeline.intake;
    const exported = agent.exports.counts;
    const arrived =
      received === undefined ? "" : `, received ${received.data_points.toLocaleString("en-US")}`;
    return {
      title,
      elapsedSeconds: Math.max(0, (clock.now() - origin) / 1e9),
      gpus: [...gpus.values()].map((info) => this.#figures.gpu(info, lastGpuSamples.get(info.uuid))),
      host: this.#figures.host(),
      notes: [
        `OTLP: ${exported.data_points.toLocaleString("en-US")} data points shipped to ${agent.exports.destination ?? "no destination"}${arrived}`,
        ...(agent.exports.address === undefined ? [] : [`metrics: http://${agent.exports.address}/metrics`]),
      ],
    };
  }
}
