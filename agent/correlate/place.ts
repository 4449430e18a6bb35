// The estimator of a server on one GPU, and the polls it gets: the server's, or those of the data-parallel ranks whose GPU it
// is. Ranks' polls carry the server's own, for a GPU that works while its rank has nothing to do (activity/lent.ts).
import type { Nanos, ServerPoll } from "../model.ts";
import { copyActivity, forgetLearned, observePoll, observeWindow, preview } from "./activity/activity.ts";
import type { Activity, ActivityWindow, SeenPoll } from "./activity/evidence.ts";
import { busyBetween, observeCredit } from "./activity/others.ts";
import { ownedIn } from "./activity/split.ts";
import type { Span } from "./edges.ts";
import type { RankPlace } from "./rank-places.ts";
import type { ShareReading, Timeline } from "./timeline.ts";
import { creditOf } from "./timeline.ts";
import type { StepFacts, TokenStep } from "./token-step.ts";
import { keepStep, stepBetween } from "./token-step.ts";

/** What ranks had counted together; undefined where a poll does not say it of each. */
type View = Partial<Pick<ServerPoll, "inputTokens" | "outputTokens" | "inFlight" | "activeNanos">>;

/** What the driver says of one GPU. */
export type Readings = Pick<Timeline, "info" | "shares" | "windows">;

/** A gauge that is missing at more polls than these in a row is no longer published. */
const leftOutMax = 3;

/** One GPU of a server. */
export class Place {
  readonly activity: Activity;
  #windowsUntil: Nanos = -Infinity;
  #creditsUntil: Nanos = -Infinity;
  #ranks: RankPlace | undefined;
  /** Of its ranks, once it had some. */
  steps: TokenStep[] | undefined;
  /** The last poll of its ranks, on a scale of its own: which ranks they are may change. */
  #own: ServerPoll | undefined;
  /** Polls in a row that left its ranks out. */
  #leftOut = 0;

  constructor(activity: Activity) {
    this.activity = activity;
  }

  /** A place for another GPU of the server: what the polls said stays. */
  copied(): Place {
    const copy = new Place(copyActivity(this.activity));
    copy.#own = this.#own;
    return copy;
  }

  /** When its server executes here up to `until`, as far as that is not decided yet. */
  executedAhead(until: Nanos): readonly Span[] {
    return preview(this.activity, until).filter(({ state }) => state === "active");
  }

  /** Takes in which of the driver's readings credited the processes `pids` of the server. */
  observeCredits({ shares, windows }: Readings, pids: readonly number[]): void {
    let index = shares.length;
    while (index > 0 && (shares[index - 1] as ShareReading).to > this.#creditsUntil) index--;
    for (; index < shares.length; index++) {
      const reading = shares[index] as ShareReading;
      const { from, samples, to } = reading;
      let ratio = 0;
      for (const pid of pids) ratio += creditOf(reading, pid);
      const owned = samples.length > 0 ? ownedIn(reading, windows, pids) : undefined;
      observeCredit(this.activity, { from, to, credited: ratio > 0, ratio, owned });
      this.#creditsUntil = to;
    }
  }

  /** The ranks whose GPU it is; undefined while the server as a whole speaks for it. */
  get ranks(): RankPlace | undefined {
    return this.#ranks;
  }

  /**
   * Gives the GPU to other ranks. What is not decided yet is theirs as well: the polls say what they did. What was learned was
   * of those before.
   */
  seatRanks(ranks: RankPlace | undefined): void {
    const before = this.#ranks;
    this.#ranks = ranks;
    if (before === undefined || ranks === undefined || isOfSame(before, ranks)) return;
    forgetLearned(this.activity);
    const { polls } = this.activity;
    // Polls without ranks, and all before them, stay as they are: what came after goes on from there.
    const first = polls.findLastIndex(({ whole }) => whole === undefined) + 1;
    let [last, own] = [polls[first]?.whole, polls[first] as SeenPoll];
    for (let index = first; index < polls.length; index++) {
      const whole = (polls[index] as SeenPoll).whole as SeenPoll;
      own = this.#ownPoll(whole, last, own);
      const { ended: _ofOthers, ...rest } = own;
      polls[index] = { ...rest, whole, ...(ranks.isAssumed ? { isAssumed: true } : {}) };
      last = whole;
    }
    if (first < polls.length) this.#own = own;
  }

  /** Takes in the windows after those already taken; they are in order. */
  takeWindows(windows: readonly ActivityWindow[]): void {
    let index = windows.length;
    while (index > 0 && (windows[index - 1] as ActivityWindow).to > this.#windowsUntil) index--;
    for (; index < windows.length; index++) {
      const window = windows[index] as ActivityWindow;
      const isCut = window.from < this.#windowsUntil;
      const rest = isCut ? { ...window, from: this.#windowsUntil } : window;
      if (observeWindow(this.activity, rest)) this.#windowsUntil = window.to;
    }
  }

  /** Takes a poll of the server in; false when it does not follow the last one. */
  observe(
    poll: SeenPoll,
    previous: ServerPoll | undefined,
    factsOf: (ranks?: readonly string[]) => StepFacts,
  ): boolean {
    if (this.#ranks === undefined && this.#own === undefined) return observePoll(this.activity, poll);
    if (this.#isLeftOut(poll) && this.#leftOut++ < leftOutMax) return true;
    this.#leftOut = 0;
    const before = this.#own ?? previous;
    const own = this.#ownPoll(poll, previous, before);
    const { ended, ...unended } = own;
    const facts = factsOf(this.ranks?.ranks);
    const { ended: ranksEnded, requests } = facts;
    const seen =
      ranksEnded === undefined ? { ...unended, requests } : { ...unended, requests, ended: ranksEnded };
    const rankDoubt = this.ranks?.isAssumed === true ? { isAssumed: true as const } : {};
    const whole = this.ranks === undefined ? {} : { whole: poll };
    if (!observePoll(this.activity, { ...seen, ...whole, ...rankDoubt })) return false;
    this.#own = own;
    if (previous === undefined || before === undefined) return true;
    this.steps ??= [];
    if (busyBetween(before, own)) keepStep(this.steps, stepBetween(before, own, facts));
    else keepStep(this.steps, { ...stepBetween(previous, poll, factsOf()), isLent: true });
    return true;
  }

  /** A page that leaves a rank out says nothing of it: the time goes on to the next one that does. */
  #isLeftOut(poll: SeenPoll): boolean {
    if (this.ranks === undefined || this.#own?.inFlight === undefined) return false;
    return viewOf(poll, this.ranks).inFlight === undefined;
  }

  /** Whether the server was busy on this GPU between two of its polls, the last one being taken in. */
  wasBusy(previous: ServerPoll, poll: ServerPoll): boolean {
    const step = this.steps?.at(-1);
    return step?.to === poll.at ? step.isLent !== true : busyBetween(previous, poll);
  }

  /** The ranks' poll. Its counters begin where the server's stood, so that a server that is no longer new does not look it. */
  #ownPoll(poll: SeenPoll, previous: ServerPoll | undefined, before: ServerPoll = poll): SeenPoll {
    const now = viewOf(poll, this.#ranks);
    const then = previous === undefined ? {} : viewOf(previous, this.#ranks);
    const { activeNanos: _active, inFlight: _running, ranks: _ranks, ...rest } = poll;
    const active = (before.activeNanos ?? 0) + rise(then.activeNanos, now.activeNanos);
    return {
      ...rest,
      inputTokens: before.inputTokens + rise(then.inputTokens, now.inputTokens),
      outputTokens: before.outputTokens + rise(then.outputTokens, now.outputTokens),
      ...(now.inFlight === undefined ? {} : { inFlight: now.inFlight }),
      ...(now.activeNanos === undefined ? {} : { activeNanos: active }),
    };
  }
}

function isOfSame(one: RankPlace, other: RankPlace): boolean {
  return one.ranks.length === other.ranks.length && one.ranks.every((rank) => other.ranks.includes(rank));
}

function isUsable(amount: number | undefined): amount is number {
  return amount !== undefined && amount >= 0 && amount <= Number.MAX_SAFE_INTEGER;
}

function rise(before: number | undefined, now: number | undefined): number {
  return before === undefined || now === undefined || !(now > before) ? 0 : now - before;
}

/** What a poll says of the ranks of a place together. */
function viewOf(poll: ServerPoll, place: RankPlace | undefined): View {
  if (place === undefined) return poll;
  const own = (poll.ranks ?? []).filter(({ rank }) => place.ranks.includes(rank));
  const view: { -readonly [Key in keyof View]: View[Key] } = {};
  for (const key of ["inputTokens", "outputTokens", "inFlight", "activeNanos"] as const) {
    const amounts = own.flatMap((rank) => (isUsable(rank[key]) ? rank[key] : []));
    if (amounts.length === place.ranks.length) view[key] = amounts.reduce((sum, amount) => sum + amount, 0);
  }
  return view;
}
