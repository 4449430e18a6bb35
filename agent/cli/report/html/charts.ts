// Charts of a report as pictures of their own, without script: GPU time by state, stacked over days. Each bar says in words
// what it is, and carries the exact value.
import { stateLooks, stateOrder } from "../../../platform/state-colours.ts";
import type { StatePeriod } from "./gather.ts";
import { stateFill } from "./style.ts";
import { escapeHtml, hours, numberAt, percent } from "./write.ts";

const size = { width: 920, height: 300, left: 52, right: 8, top: 12, bottom: 40 } as const;
const labelsMax = 16;
/** Rounder steps of an axis. */
const steps = [1, 2, 2.5, 5, 10];

/** The stripes of what is not known; once a page. */
export const hatchPattern = `<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch-ground" width="6" height="6" fill="#f1eef6"/><line class="hatch" x1="0" y1="0" x2="0" y2="6" stroke="${stateLooks.unobserved.light}" stroke-width="3"/></pattern></defs></svg>`;

/** GPU-hours by state of each period, one on top of the other; empty where nothing was booked. */
export function stackedStates(found: readonly StatePeriod[], unit: string): string {
  const sums = found.map(({ lines }) => sumOf([...lines.keys()].map((state) => secondsOf(lines, state))));
  const most = Math.max(0, ...sums);
  if (most === 0) return "";
  const { bottom, height, left, right, top, width } = size;
  const step = stepOf(most / 3600);
  const ceiling = Math.max(1, Math.ceil(most / 3600 / step - 0.02)) * step * 3600;
  const y = (seconds: number): number => height - bottom - (seconds / ceiling) * (height - top - bottom);
  const pitch = (width - left - right) / found.length;
  const wide = Math.max(1, Math.min(72, pitch * 0.78));
  const every = Math.ceil(found.length / labelsMax);
  const parts: string[] = [];
  for (let at = 0; at <= ceiling / 3600 + 1e-9; at += step) {
    const line = y(at * 3600).toFixed(1);
    parts.push(
      `<line class="grid" stroke="#e2e7ec" x1="${left}" x2="${width - right}" y1="${line}" y2="${line}"/>`,
      `<text x="${left - 6}" y="${line}" dy=".32em" text-anchor="end">${tick(at)}</text>`,
    );
  }
  for (const [index, { lines, period }] of found.entries()) {
    const x = left + pitch * (index + 0.5);
    parts.push(...bars(lines, period.name, { x: x - wide / 2, wide, y }));
    if (index % every !== 0) continue;
    const name =
      unit === "hour" ? period.name.slice(11, 16) : unit === "day" ? period.name.slice(5) : period.name;
    parts.push(
      `<text x="${x.toFixed(1)}" y="${height - bottom + 16}" text-anchor="middle">${escapeHtml(name)}</text>`,
    );
  }
  const base = height - bottom;
  parts.push(
    `<line class="axis" stroke="#9aa5b0" x1="${left}" x2="${width - right}" y1="${base}" y2="${base}"/>`,
  );
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="GPU-hours by state and ${unit}" font-size="12">${parts.join("")}</svg>`;
}

function bars(
  lines: StatePeriod["lines"],
  name: string,
  { wide, x, y }: { x: number; wide: number; y: (seconds: number) => number },
): readonly string[] {
  const all = sumOf([...lines.keys()].map((state) => secondsOf(lines, state)));
  let below = 0;
  return stateOrder.flatMap((state) => {
    const seconds = secondsOf(lines, state);
    if (!(seconds > 0)) return [];
    const [foot, head] = [y(below), y(below + seconds)];
    below += seconds;
    const told = `${name}: ${stateLooks[state].label} ${hours(seconds)} GPU-hours, ${percent(seconds / all)}`;
    return [
      `<rect ${stateFill(state)} x="${x.toFixed(1)}" y="${head.toFixed(1)}" width="${wide.toFixed(1)}" height="${Math.max(0.3, foot - head).toFixed(1)}" data-row="${escapeHtml(JSON.stringify([name, state]))}" data-key="gpu_seconds.${state}" data-value="${seconds}"><title>${escapeHtml(told)}</title></rect>`,
    ];
  });
}

/** All of a line's GPU time as one bar of states. */
export function stateBar(seconds: (state: string) => number | undefined): string {
  const all = sumOf(stateOrder.map((state) => seconds(state) ?? 0));
  if (all === 0) return "";
  let x = 0;
  const parts = stateOrder.map((state) => {
    const width = (100 * (seconds(state) ?? 0)) / all;
    x += width;
    return width === 0
      ? ""
      : `<rect ${stateFill(state)} x="${(x - width).toFixed(2)}" width="${width.toFixed(2)}" height="10"><title>${stateLooks[state].label} ${percent(width / 100)}</title></rect>`;
  });
  return `<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="states">${parts.join("")}</svg>`;
}

/** The mark of one state beside its name. */
export function stateMark(state: (typeof stateOrder)[number]): string {
  return `<svg viewBox="0 0 10 10" aria-hidden="true"><rect ${stateFill(state)} width="10" height="10"/></svg>`;
}

/** What each colour means. */
export function stateLegend(states: readonly string[]): string {
  const items = stateOrder
    .filter((state) => states.includes(state))
    .map((state) => `<li>${stateMark(state)}${stateLooks[state].label}: ${stateLooks[state].meaning}</li>`);
  return `<ul class="legend">${items.join("")}</ul>`;
}

function secondsOf(lines: StatePeriod["lines"], state: string): number {
  const line = lines.get(state);
  return line === undefined ? 0 : (numberAt(line, `gpu_seconds.${state}`) ?? 0);
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

/** A step that makes about five lines. */
function stepOf(most: number): number {
  const rough = most / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  return (steps.find((one) => one * power >= rough) ?? 10) * power;
}

function tick(value: number): string {
  return Number(value.toPrecision(6)).toLocaleString("en-US");
}
