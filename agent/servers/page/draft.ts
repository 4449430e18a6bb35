// One reading of a metric page in the making: what was added up for one model, tenant and endpoint so far.
// Thousands are made at every poll of a gateway, so that each is one object and nothing in it is made before it is needed.
import type { Histogram, LatencyKey, Outcome, ProgressKind, TokenKind } from "../../model.ts";
import type { Identity, Labels } from "./labels.ts";
import { partOf, withoutLabels } from "./labels.ts";

/** One reading in the making. */
export class ReadingDraft {
  readonly identity: Identity;
  readonly tokensByKind: Partial<Record<TokenKind, number>> = {};
  /** Only where the page tells outcomes apart. */
  byOutcome: Partial<Record<Outcome, Partial<Record<TokenKind, number>>>> | undefined;
  readonly requestsByOutcome: Partial<Record<Outcome, number>> = {};
  readonly latencies: Partial<Record<LatencyKey, Histogram>> = {};
  /** Only where somebody looks at the page: what it was summed of. */
  summed: { readonly labels: Labels; readonly without: readonly string[] }[] | undefined;
  volumeKind: ProgressKind | undefined;
  reasoningTokens: number | undefined;
  progressed: { readonly input: number; readonly output: number } | undefined;
  running: number | undefined;
  waiting: number | undefined;
  kv: { readonly sum: number; readonly count: number } | undefined;

  constructor(identity: Identity) {
    this.identity = identity;
  }

  /** Adds tokens of a kind; negative or absurd amounts are dropped. */
  tokens(kind: TokenKind, amount: number, outcome: Outcome = "ok"): void {
    const whole = wholeOf(amount);
    if (outcome !== "ok" && this.byOutcome === undefined) {
      const ok = Object.keys(this.tokensByKind).length === 0 ? {} : { ok: { ...this.tokensByKind } };
      this.byOutcome = ok;
    }
    this.tokensByKind[kind] = (this.tokensByKind[kind] ?? 0) + whole;
    if (this.byOutcome === undefined) return;
    const of = this.byOutcome[outcome] ?? {};
    of[kind] = (of[kind] ?? 0) + whole;
    this.byOutcome[outcome] = of;
  }

  reasoning(amount: number): void {
    this.reasoningTokens = (this.reasoningTokens ?? 0) + wholeOf(amount);
  }

  requests(outcome: Outcome, amount: number): void {
    this.requestsByOutcome[outcome] = (this.requestsByOutcome[outcome] ?? 0) + wholeOf(amount);
  }

  progress(input: number, output: number): void {
    const { progressed = { input: 0, output: 0 } } = this;
    this.progressed = { input: progressed.input + input, output: progressed.output + output };
  }

  /** Remembers label sets as part of it. */
  noteLabels(labels: Labels, without: readonly string[]): void {
    this.summed ??= [];
    this.summed.push({ labels, without });
  }

  /** How its volume counters move, where that differs from the rest of the page. */
  volume(kind: ProgressKind): void {
    this.volumeKind = kind;
  }
}

function wholeOf(amount: number): number {
  return Number.isFinite(amount) && amount >= 0 ? Math.floor(amount) : 0;
}

/** The label sets that were summed into a reading, each part once. */
export function summedLabels({ summed = [] }: ReadingDraft): readonly Labels[] {
  const parts = new Map<string, Labels>();
  for (const { labels, without } of summed) {
    const key = partOf(labels, without);
    if (!parts.has(key)) parts.set(key, withoutLabels(labels, without));
  }
  return [...parts.values()];
}
