// The live table on a terminal, and its JSON twin off a terminal: one screen or one line a second.
import { stateLooks, stateOrder } from "../../platform/state-colours.ts";
import { formatTable } from "../common/table.ts";
import type { LiveGpu, LiveRow } from "./figures.ts";

/** What one refresh shows. */
export interface LiveScreen {
  readonly title: string;
  readonly elapsedSeconds: number;
  readonly gpus: readonly LiveGpu[];
  readonly host: LiveRow;
  /** Lines below the table: export, warnings. */
  readonly notes: readonly string[];
}

const CELLS = 30;
const HEADER = [
  "GPU",
  "model",
  "state, last 30 s",
  "util",
  "power",
  "tok/s",
  "tok/GPU-h",
  "token-active",
  "tok/J",
];

/** The whole screen as text. Wide characters are avoided, so that columns line up everywhere. */
export function renderScreen(screen: LiveScreen, colours: boolean): string {
  const paint = (text: string, code: number): string => (colours ? `\x1b[${code}m${text}\x1b[0m` : text);
  const rows = screen.gpus.map((gpu) => [
    String(gpu.info.index),
    gpu.info.name,
    gpu.history
      .slice(-CELLS)
      .map((state) => stateLooks[state].glyph)
      .join("")
      .padStart(CELLS),
    percent(gpu.utilizationRatio),
    unit(gpu.powerWatts, "W"),
    ...figures(gpu),
  ]);
  if (screen.gpus.length > 1) rows.push(["all", "", "", "", "", ...figures(screen.host)]);
  let table = formatTable([HEADER, ...rows], { rightFrom: 3 });
  if (colours) {
    for (const { glyph, sgr } of Object.values(stateLooks)) {
      table = table.replaceAll(new RegExp(`[${glyph}]+`, "g"), (run) => paint(run, sgr));
    }
  }
  const legend = stateOrder.map((state) => {
    const { glyph, label, sgr } = stateLooks[state];
    return `${paint(glyph, sgr)} ${label}`;
  });
  return [
    `${paint(screen.title, 1)}   ${screen.elapsedSeconds.toFixed(0)} s`,
    "",
    table,
    "",
    legend.join("  "),
    "token-active: share of the held time in which requests are served, few or many; capacity not known",
    ...screen.notes,
    "",
  ].join("\n");
}

/** The same as one JSON line. */
export function screenLine(screen: LiveScreen, extra: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({
    type: "second",
    elapsed_seconds: round(screen.elapsedSeconds, 3),
    ...jsonFigures(screen.host),
    gpus: screen.gpus.map((gpu) => ({
      gpu: gpu.info.uuid,
      model: gpu.info.name,
      state: gpu.history.at(-1) ?? null,
      utilization: gpu.utilizationRatio ?? null,
      power_watts: gpu.powerWatts === undefined ? null : round(gpu.powerWatts, 1),
      ...jsonFigures(gpu),
    })),
    ...extra,
  });
}

function jsonFigures(row: LiveRow): Record<string, unknown> {
  return {
    state_seconds: row.seconds,
    tokens_per_second: round(row.tokensPerSecond, 1),
    tokens_per_gpu_hour: row.tokensPerGpuHour === undefined ? null : Math.round(row.tokensPerGpuHour),
    token_active_utilization:
      row.tokenActiveUtilization === undefined ? null : round(row.tokenActiveUtilization, 4),
    tokens_per_joule: row.tokensPerJoule === undefined ? null : round(row.tokensPerJoule, 3),
  };
}

function figures(row: LiveRow): string[] {
  return [
    Math.round(row.tokensPerSecond).toLocaleString("en-US"),
    row.tokensPerGpuHour === undefined ? "-" : millions(row.tokensPerGpuHour),
    percent(row.tokenActiveUtilization),
    row.tokensPerJoule === undefined ? "-" : row.tokensPerJoule.toFixed(2),
  ];
}

function millions(value: number): string {
  return value >= 1e6 ? `${(value / 1e6).toFixed(2)} M` : Math.round(value).toLocaleString("en-US");
}

function percent(ratio: number | undefined): string {
  return ratio === undefined ? "-" : `${(100 * ratio).toFixed(0)} %`;
}

function unit(value: number | undefined, name: string): string {
  return value === undefined ? "-" : `${value.toFixed(0)} ${name}`;
}

function round(value: number, digits: number): number {
  const scale = 10 ** digits;
  return Math.round(value * scale) / scale;
}
