// A server's own states over time, on each of its GPUs and over all of them. A server executes while it executes on any
// of its GPUs; on the others it is idle then, for a rank without a request does not wait (METERING.md 2) - unless the
// rank's own gauge says that it has one.
import type { ActivityMethod, Nanos } from "../model.ts";
import type { ActivitySegment, Doubt } from "./activity/evidence.ts";
import { isSameDoubt } from "./activity/evidence.ts";
import type { Span } from "./edges.ts";

/** A server's own state in a stretch; `unknown` where no poll speaks of it. */
export interface OwnStretch {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly state: "active" | "waiting" | "idle" | "unknown";
  readonly method: ActivityMethod;
  /** The GPU worked for this server or a peer; which of them is not known. */
  readonly contested?: boolean | undefined;
  /** Work in it is a part of executions beside it. */
  readonly accounted?: boolean | undefined;
  /** The assumption the state rests on; undefined = none. */
  readonly doubt?: Doubt | undefined;
}

/** The states of one server in an interval. */
export interface OwnStates {
  /** Of the server as a whole. */
  readonly all: readonly OwnStretch[];
  /** On each of its GPUs; a GPU that is not named has the states of the whole. */
  readonly byGpu: ReadonlyMap<string, readonly OwnStretch[]>;
}

/** The states of a server on one GPU. */
export function statesOn(states: OwnStates | undefined, gpu: string): readonly OwnStretch[] {
  return states?.byGpu.get(gpu) ?? states?.all ?? [];
}

/** Returns segments from `from` on as states; what lies outside `known` is unknown. */
export function knownStretches(
  segments: readonly ActivitySegment[],
  from: Nanos,
  known: Span,
): readonly OwnStretch[] {
  if (segments.every((segment) => isKnown(segment, from, known))) return segments;
  const stretches: OwnStretch[] = [];
  for (const segment of segments) appendKnown(stretches, segment, from, known);
  return stretches;
}

/** True of a segment that is a state as it is. */
function isKnown(segment: ActivitySegment, from: Nanos, known: Span): boolean {
  if (segment.from < Math.max(from, known.from) || segment.to > known.to) return false;
  return Number.isInteger(segment.from) && Number.isInteger(segment.to) && segment.to > segment.from;
}

function appendKnown(stretches: OwnStretch[], segment: ActivitySegment, from: Nanos, known: Span): void {
  const start = within(segment, from, segment.from);
  const end = within(segment, from, segment.to);
  const begins = within(segment, from, known.from);
  const ends = within(segment, from, known.to);
  appendPart(stretches, segment, start, Math.min(begins, ends), known);
  appendPart(stretches, segment, Math.min(begins, ends), Math.max(begins, ends), known);
  appendPart(stretches, segment, Math.max(begins, ends), end, known);
}

/** An instant, or what of a segment after `from` is nearest to it. */
function within(segment: ActivitySegment, from: Nanos, at: Nanos): Nanos {
  return Math.round(Math.min(segment.to, Math.max(segment.from, from, at)));
}

function appendPart(
  stretches: OwnStretch[],
  segment: ActivitySegment,
  from: Nanos,
  to: Nanos,
  known: Span,
): void {
  if (to <= from) return;
  const isUnknown = from < known.from || to > known.to;
  const { accounted, doubt, method } = segment;
  const state = isUnknown ? "unknown" : segment.state;
  const contested = isUnknown ? undefined : segment.contested;
  stretches.push({ from, to, state, method, contested, accounted, doubt });
}

/**
 * Joins the states of a server on its GPUs, each list in order and covering the same time. On GPUs `apart` a rank says
 * itself that it waits. Of GPUs that are `tied`, each shows the same executions, in places that differ by chance: one of them
 * speaks for all.
 */
export function joined(
  byGpu: ReadonlyMap<string, readonly OwnStretch[]>,
  apart: ReadonlySet<string> = new Set(),
  tied = false,
): OwnStates {
  const lists = [...byGpu.values()];
  const [only] = lists;
  if (only === undefined) return { all: [], byGpu };
  if (lists.length === 1) return { all: only, byGpu };
  const all = tied ? middleOf(lists) : united(lists);
  const settled = new Map<string, readonly OwnStretch[]>();
  for (const [gpu, list] of byGpu) settled.set(gpu, apart.has(gpu) ? list : withoutWaiting(list, all));
  return { all, byGpu: settled };
}

/** The highest state of the lists at any time. */
function united(lists: readonly (readonly OwnStretch[])[]): OwnStretch[] {
  const edges = new Set<Nanos>();
  for (const list of lists) for (const { from, to } of list) edges.add(from).add(to);
  const instants = [...edges].sort((left, right) => left - right);
  const places = lists.map(() => 0);
  const result: OwnStretch[] = [];
  for (let index = 0; index + 1 < instants.length; index++) {
    const from = instants[index] as Nanos;
    const to = instants[index + 1] as Nanos;
    let best: OwnStretch | undefined;
    lists.forEach((list, place) => {
      while ((list[places[place] as number]?.to ?? Infinity) <= from)
        places[place] = (places[place] as number) + 1;
      const here = list[places[place] as number];
      if (here !== undefined && here.from <= from && (best === undefined || rank(here) > rank(best)))
        best = here;
    });
    if (best !== undefined) append(result, { ...(best as OwnStretch), from, to });
  }
  return result;
}

/** The list with neither the most nor the least execution. */
function middleOf(lists: readonly (readonly OwnStretch[])[]): readonly OwnStretch[] {
  const byActive = lists.map((list) => ({ list, active: activeNanos(list) }));
  byActive.sort((left, right) => left.active - right.active);
  return (byActive[byActive.length >> 1] as { list: readonly OwnStretch[] }).list;
}

function activeNanos(list: readonly OwnStretch[]): Nanos {
  let sum = 0;
  for (const { from, state, to } of list) if (state === "active") sum += to - from;
  return sum;
}

/** In flight without execution here, while the server executes elsewhere, is idle here. */
function withoutWaiting(list: readonly OwnStretch[], all: readonly OwnStretch[]): OwnStretch[] {
  const result: OwnStretch[] = [];
  for (const stretch of list) {
    if (stretch.state !== "waiting") {
      append(result, stretch);
      continue;
    }
    for (const whole of all) {
      const from = Math.max(stretch.from, whole.from);
      const to = Math.min(stretch.to, whole.to);
      if (to <= from) continue;
      append(result, { ...stretch, from, to, state: whole.state === "active" ? "idle" : "waiting" });
    }
  }
  return result;
}

function rank({ state, contested }: OwnStretch): number {
  return 2 * ["unknown", "idle", "waiting", "active"].indexOf(state) + (contested ? 1 : 0);
}

function append(list: OwnStretch[], stretch: OwnStretch): void {
  const last = list.at(-1);
  const same =
    last !== undefined &&
    last.to === stretch.from &&
    last.state === stretch.state &&
    last.method === stretch.method &&
    last.contested === stretch.contested &&
    last.accounted === stretch.accounted &&
    isSameDoubt(last.doubt, stretch.doubt);
  if (same) list[list.length - 1] = { ...last, to: stretch.to };
  else list.push(stretch);
}
