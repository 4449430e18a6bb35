// What speaks against a data-parallel rank being on a GPU, in seconds: the rank executed while the GPU rested, or the GPU worked
// while the rank had nothing to do. The first is never so, whoever else works. The second is so of ranks that step together:
// it counts only once a GPU of the server was seen at rest while another worked. Older seconds fade.
import type { Nanos, RankPoll, ServerPoll } from "../../model.ts";
import { busyIn } from "../activity/durations.ts";
import type { ActivityWindow } from "../activity/evidence.ts";
import { coarseNanos } from "../activity/level.ts";
import { workingBusyRatio } from "../activity/runs.ts";

/** What a rank did between two polls. `steady`: it made tokens and had requests in flight at both. */
type Doing = "quiet" | "moved" | "steady" | "unknown";

interface Span {
  readonly from: Nanos;
  readonly to: Nanos;
  /** By rank. */
  readonly doings: readonly Doing[];
}

/** A GPU of a server in a time: whether another than the server may have worked there. */
export type IsShared = (gpu: string, from: Nanos, to: Nanos) => boolean;
type Windows = ReadonlyMap<string, readonly ActivityWindow[]>;

/** Work this close to a poll may be on the other side of it: a driver's window, and the time a page takes. */
const edgeNanos: Nanos = 200_000_000;
/** One look says no more than this, however long it is. */
const lookNanosMax: Nanos = 2_000_000_000;
/** So much of a time must be covered by windows at rest for a GPU to have rested. */
const coveredRatio = 0.95;
/** A GPU works that is busy for this share of a time. */
const worksRatio = 0.2;
/** What was seen counts half after so long. */
const halfLifeNanos: Nanos = 600_000_000_000;
/** GPUs of a server that worked one without the other for this long do not step together. */
const apartNanosMin: Nanos = 6_000_000_000;
/** Spans kept at most. */
const spansMax = 512;

/** The evidence of one server whose ranks and GPUs stay the same. */
export class RankEvidence {
  readonly ranks: readonly string[];
  readonly gpus: readonly string[];
  /** By GPU, then rank. */
  readonly #rested: Float64Array;
  readonly #unexplained: Float64Array;
  #apartNanos = 0;
  readonly #spans: Span[] = [];
  /** Spans before this instant were weighed; windows, by GPU. */
  #weighedUntil: Nanos = -Infinity;
  readonly #windowsUntil = new Map<string, Nanos>();

  constructor(ranks: readonly string[], gpus: readonly string[]) {
    this.ranks = ranks;
    this.gpus = gpus;
    this.#rested = new Float64Array(ranks.length * gpus.length);
    this.#unexplained = new Float64Array(ranks.length * gpus.length);
  }

  /** Takes in what each rank did between two polls; polls whose counters stand for another instant say nothing. */
  takePoll(before: ServerPoll, poll: ServerPoll): void {
    const isDoubted = before.doubt !== undefined || poll.doubt !== undefined;
    const doings = this.ranks.map((rank) =>
      isDoubted ? "unknown" : doingOf(rankIn(before, rank), rankIn(poll, rank)),
    );
    this.#spans.push({ from: before.at, to: poll.at, doings });
    if (this.#spans.length > spansMax) this.#spans.shift();
  }

  /** Weighs what the windows of the GPUs reach over; true when something new was weighed. */
  weigh(windows: Windows, isShared: IsShared): boolean {
    const reached = Math.min(...this.gpus.map((gpu) => windows.get(gpu)?.at(-1)?.to ?? -Infinity));
    let isNew = false;
    for (const span of this.#spans) {
      if (span.from < this.#weighedUntil || span.to + edgeNanos > reached) continue;
      this.#fade(span.to - span.from);
      this.#weighSpan(span, windows, isShared);
      this.#weighedUntil = span.to;
      isNew = true;
    }
    const polled = this.#spans.at(-1)?.to ?? -Infinity;
    this.gpus.forEach((gpu, place) => {
      this.#weighWindows(place, windows.get(gpu) ?? [], polled - edgeNanos, (from, to) =>
        isShared(gpu, from, to),
      );
    });
    const least = Math.min(
      this.#weighedUntil,
      ...this.gpus.map((gpu) => this.#windowsUntil.get(gpu) ?? -Infinity),
    );
    while (this.#spans.length > 0 && (this.#spans[0] as Span).to < least - 2 * edgeNanos) this.#spans.shift();
    return isNew;
  }

  /** What speaks against a rank on a GPU, both by their place. */
  against(gpu: number, rank: number): Nanos {
    const place = gpu * this.ranks.length + rank;
    const isApart = this.#apartNanos >= apartNanosMin;
    return (this.#rested[place] as number) + (isApart ? (this.#unexplained[place] as number) : 0);
  }

  /** Forgets what was seen: the ranks may be on other GPUs from now on. */
  clear(): void {
    this.#rested.fill(0);
    this.#unexplained.fill(0);
    this.#spans.length = 0;
  }

  #fade(nanos: Nanos): void {
    const kept = 0.5 ** (nanos / halfLifeNanos);
    for (let place = 0; place < this.#rested.length; place++) {
      this.#rested[place] = (this.#rested[place] as number) * kept;
      this.#unexplained[place] = (this.#unexplained[place] as number) * kept;
    }
    this.#apartNanos *= kept;
  }

  /** Ranks that executed, against GPUs that rested all along. */
  #weighSpan({ doings, from, to }: Span, windows: Windows, isShared: IsShared): void {
    const looked = Math.min(to - from, lookNanosMax);
    let [doRest, doWork] = [false, false];
    this.gpus.forEach((gpu, place) => {
      const own = windows.get(gpu) ?? [];
      const rest = restIn(own, from - edgeNanos, to + edgeNanos);
      if (rest === "none") {
        doWork ||= busyIn(own, from, to).nanos > worksRatio * (to - from) && !isShared(gpu, from, to);
        return;
      }
      doRest ||= rest === "whole";
      doings.forEach((doing, rank) => {
        if (doing === "steady" || (doing === "moved" && rest === "whole"))
          this.#add(this.#rested, place, rank, looked);
      });
    });
    if (doRest && doWork) this.#apartNanos += looked;
  }

  /** Work of a GPU against ranks that had nothing to do. */
  #weighWindows(
    gpu: number,
    windows: readonly ActivityWindow[],
    until: Nanos,
    isShared: (from: Nanos, to: Nanos) => boolean,
  ): void {
    const uuid = this.gpus[gpu] as string;
    const weighed = this.#windowsUntil.get(uuid) ?? this.#spans[0]?.from ?? Infinity;
    let first = windows.length;
    while (first > 0 && (windows[first - 1] as ActivityWindow).from >= weighed) first--;
    for (let index = first; index < windows.length; index++) {
      const window = windows[index] as ActivityWindow;
      if (window.to > until) break;
      this.#windowsUntil.set(uuid, window.to);
      if (window.busyRatio < workingBusyRatio || isShared(window.from, window.to)) continue;
      const busy = (window.to - window.from) * window.busyRatio;
      const isLong = window.to - window.from > coarseNanos && window.sampled !== true;
      for (let rank = 0; rank < this.ranks.length; rank++) {
        const may = this.#mayExecute(rank, window.from, window.to);
        const excess = isLong ? busy - may : may > 0 ? 0 : busy;
        if (excess > 0) this.#add(this.#unexplained, gpu, rank, Math.min(excess, lookNanosMax));
      }
    }
  }

  /** How much of a time a rank may have executed. */
  #mayExecute(rank: number, from: Nanos, to: Nanos): Nanos {
    let [may, reached] = [0, from];
    for (const span of this.#spans) {
      if (span.from - edgeNanos >= to) break;
      if (span.doings[rank] === "quiet") continue;
      const start = Math.max(reached, span.from - edgeNanos);
      const end = Math.min(to, span.to + edgeNanos);
      if (end <= start) continue;
      may += end - start;
      reached = end;
    }
    return may;
  }

  #add(to: Float64Array, gpu: number, rank: number, nanos: Nanos): void {
    const place = gpu * this.ranks.length + rank;
    to[place] = (to[place] as number) + nanos;
  }
}

function rankIn(poll: ServerPoll, rank: string): RankPoll | undefined {
  return poll.ranks?.find((one) => one.rank === rank);
}

function doingOf(before: RankPoll | undefined, now: RankPoll | undefined): Doing {
  if (before === undefined || now === undefined) return "unknown";
  const moved = now.inputTokens + now.outputTokens > before.inputTokens + before.outputTokens;
  const timed = (now.activeNanos ?? 0) > (before.activeNanos ?? 0);
  const [from, to] = [before.inFlight, now.inFlight];
  if (moved) return (from ?? 0) > 0 && (to ?? 0) > 0 ? "steady" : "moved";
  if (timed) return "moved";
  // In flight without a token, or not told to be none: a prompt may be under way.
  return from === 0 && to === 0 ? "quiet" : "unknown";
}

/**
 * Whether windows say that a GPU did nothing in a time: throughout, or at the instants at which it was looked at, if that was
 * surely in it. A driver's last window says nothing of the rest of the time it stands for.
 */
function restIn(windows: readonly ActivityWindow[], from: Nanos, to: Nanos): "whole" | "sampled" | "none" {
  let [covered, samples] = [0, 0];
  for (let index = windows.length - 1; index >= 0; index--) {
    const window = windows[index] as ActivityWindow;
    if (window.to <= from) break;
    if (window.from >= to) continue;
    if (window.sampled === true) {
      if (window.to > to || window.to - edgeNanos < from) continue;
      if (window.busyRatio >= workingBusyRatio) return "none";
      samples++;
      continue;
    }
    if (window.busyRatio >= workingBusyRatio) return "none";
    covered += Math.min(window.to, to) - Math.max(window.from, from);
  }
  if (covered >= coveredRatio * (to - from)) return "whole";
  return samples > 0 ? "sampled" : "none";
}
