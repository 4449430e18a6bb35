// What the servers on a board did in a stretch, by their pages alone: how long they executed, and output tokens. It says where
// power went between two readings of it (energy/sampled-power.ts), so no reading of the GPU is in it. And when they executed, by
// all that is known, which says where the joules of a window went (energy/placed-power.ts).
import type { Nanos } from "../model.ts";
import type { ActivityWindow } from "./activity/evidence.ts";
import { inputStepWeight, ownStepPerRequest } from "./activity/intervals.ts";
import { workingBusyRatio } from "./activity/runs.ts";
import type { Span } from "./edges.ts";
import type { Executed, ExecutedStretch } from "./energy/placed-power.ts";
import type { WorkIn } from "./energy/sampled-power.ts";
import type { Part, Settling } from "./member.ts";
import { decodedIn } from "./phases/phase-fit.ts";
import { unmetered } from "./tenancy.ts";
import type { TokenStep } from "./token-step.ts";

/** What a page says of the time between two polls, and where in it requests were executed. */
interface Busy {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly start: Nanos;
  readonly end: Nanos;
  readonly tokens: number;
}

/** Returns what says how much the servers of all members did in a stretch, undefined where a page does not say. */
export function workRates(
  parts: readonly Part[],
  stepsOf: (server: string, gpu: string) => readonly TokenStep[],
): WorkIn {
  const pages: (readonly Busy[])[] = [];
  for (const { member, residents } of parts)
    for (const server of residents.servers)
      if (server !== unmetered) pages.push(busyOf(stepsOf(server, member.timeline.info.uuid)));
  return (from, to) => {
    const rates: [number, number] = [0, 0];
    for (const page of pages) if (!addWork(rates, page, from, to)) return undefined;
    const seconds = (to - from) / 1e9;
    return [rates[0] / seconds, rates[1] / seconds];
  };
}

/** True of a whole GPU that metered servers alone hold: what it draws above its floor is their work. */
export function isOnlyMetered(parts: readonly Part[]): boolean {
  const [part] = parts;
  if (part === undefined || parts.length > 1 || part.member.timeline.info.parent !== undefined) return false;
  return part.residents.servers.size > 0 && !part.residents.servers.has(unmetered);
}

/** Longer windows do not say where in them a GPU worked. */
const nearNanosMax: Nanos = 300_000_000;

/** True of a whole GPU that metered servers and others hold: what it draws above its floor is the work of them all. */
export function isBesideOthers(parts: readonly Part[]): boolean {
  const [part] = parts;
  if (part === undefined || parts.length > 1 || part.member.timeline.info.parent !== undefined) return false;
  return part.residents.servers.size > 0 && part.residents.servers.has(unmetered);
}

/** Returns what says when anything was executed on a board; of one on which others may have worked, when it was busy, and how much. */
export function executedOn(
  parts: readonly Part[],
  { ahead, from, to: until }: Pick<Settling, "ahead" | "from" | "to">,
): Executed | undefined {
  const [part] = parts;
  if (part === undefined) return undefined;
  if (isBesideOthers(parts)) return (start, end) => busyIn(part.member.timeline.windows, start, end);
  if (!isOnlyMetered(parts)) return undefined;
  const spans: Span[] = part.pieces.filter(({ state }) => state === "token_active");
  for (const server of part.residents.servers)
    for (const span of ahead(server, part.member.timeline.info.uuid)) if (span.to > until) spans.push(span);
  spans.sort((left, right) => left.from - right.from);
  return (start, end) => (start < from ? undefined : united(spans, start, end));
}

/** How busy a GPU was in `[from, to)`; undefined where near windows do not say it of all of that. */
function busyIn(
  windows: readonly ActivityWindow[],
  from: Nanos,
  to: Nanos,
): readonly ExecutedStretch[] | undefined {
  const busy: ExecutedStretch[] = [];
  let reached = from;
  for (const { busyRatio, from: start, sampled, to: end } of windows) {
    if (end <= from) continue;
    if (start >= to) break;
    if (start > reached || sampled === true || end - start > nearNanosMax) return undefined;
    if (busyRatio >= workingBusyRatio)
      busy.push({ from: Math.max(reached, start), to: Math.min(to, end), ratio: busyRatio });
    reached = end;
  }
  return reached >= to - nearNanosMax ? busy : undefined;
}

/** What of spans, by their beginnings, lies in `[from, to)`, each instant once. */
function united(spans: readonly Span[], from: Nanos, to: Nanos): readonly Span[] {
  const inside: Span[] = [];
  for (const span of spans) {
    const last = inside.at(-1);
    const [start, end] = [Math.max(from, span.from, last?.to ?? from), Math.min(to, span.to)];
    if (end <= start) continue;
    if (last?.to === start) inside[inside.length - 1] = { from: last.from, to: end };
    else inside.push({ from: start, to: end });
  }
  return inside;
}

/** Where requests were executed: at the end of a step that saw one in flight, for as long as its tokens take elsewhere. */
function busyOf(steps: readonly TokenStep[]): readonly Busy[] {
  const nanosPerUnit = paceOf(steps);
  return steps.map((step) => {
    const { from, inFlightFrom = 0, inFlightTo = 0, progress, to } = step;
    const units = progress === "step" ? unitsOf(step) : 0;
    const isWhole = (inFlightFrom > 0 && inFlightTo > 0) || nanosPerUnit === undefined;
    const isNone = step.isLent === true || (inFlightFrom <= 0 && inFlightTo <= 0 && units <= 0);
    const amount = isNone ? 0 : isWhole ? to - from : Math.min(to - from, units * nanosPerUnit);
    const start = inFlightFrom > 0 ? from : inFlightTo > 0 ? to - amount : from + (to - from - amount) / 2;
    return { from, to, start, end: start + amount, tokens: step.outputTokens };
  });
}

/** How long the work of a decode step takes, by the steps with a request in flight at both ends; undefined without any. */
function paceOf(steps: readonly TokenStep[]): number | undefined {
  let [nanos, units] = [0, 0];
  for (const step of steps) {
    if (!((step.inFlightFrom ?? 0) > 0 && (step.inFlightTo ?? 0) > 0)) continue;
    if (step.progress !== "step" || step.isLent) continue;
    nanos += step.to - step.from;
    units += unitsOf(step);
  }
  return units > 0 ? nanos / units : undefined;
}

/** Decode steps, prompts included: output tokens over the requests running, at both ends or at the one that saw any. */
function unitsOf(step: TokenStep): number {
  const { inFlightFrom = 0, inFlightTo = 0, requests } = step;
  const both = inFlightFrom > 0 && inFlightTo > 0;
  const running = both
    ? (inFlightFrom + inFlightTo) / 2
    : Math.max(1, (1 + Math.max(inFlightFrom, inFlightTo, requests)) / 2);
  return decodedIn(step) * (1 / running + ownStepPerRequest) + step.inputTokens * inputStepWeight;
}

/** Adds what a page says of `[from, to)`: seconds and tokens; false where it does not cover that time. */
function addWork(rates: [number, number], page: readonly Busy[], from: Nanos, to: Nanos): boolean {
  let reached = to;
  for (let index = page.length - 1; index >= 0; index--) {
    const busy = page[index] as Busy;
    if (busy.to <= from) break;
    if (busy.from >= to) continue;
    if (busy.to < reached) return false;
    reached = busy.from;
    const inside = Math.max(0, Math.min(busy.end, to) - Math.max(busy.start, from));
    const part = busy.end > busy.start ? inside / (busy.end - busy.start) : 0;
    rates[0] += inside / 1e9;
    rates[1] += busy.tokens * part;
  }
  return reached <= from;
}
