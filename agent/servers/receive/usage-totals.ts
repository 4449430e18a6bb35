// Cumulative totals of usage that was reported piece by piece: per request, or as increments of pushed counters.
// Turns them into samples in the normal form. Keys are bounded: a tenant beyond the bound is folded into `other`, tokens
// conserved. Totals begin with the receiver, so its start is their epoch, and every sample names all keys.
import type {
  Family,
  Histogram,
  Latencies,
  LatencyKey,
  LatencyName,
  Nanos,
  Outcome,
  ServerInfo,
  TokenKind,
  TokenReading,
  TokenSample,
  UnixNanos,
  UsageDispute,
  UsagePiece,
} from "../../model.ts";
import { defined, isUpstream } from "../entry.ts";
import { mergeHistograms } from "../page/histograms.ts";
import { SharedBound } from "./shares.ts";

/** What some requests of one (model, tenant, endpoint) used. */
export interface Usage {
  readonly model?: string | undefined;
  readonly tenant?: string | undefined;
  readonly endpoint?: string | undefined;
  /** Which upstream answered, where the source says so and it matters. */
  readonly upstream?: string | undefined;
  readonly outcome?: Outcome;
  /** When it ended, where the source says so. */
  readonly endTime?: UnixNanos;
  /** When it was counted, where it may be taken back: what was known then decides what it is booked under. */
  readonly countedAt?: UnixNanos | undefined;
  /** Takes back what was counted before: a correction or a void. */
  readonly takesBack?: boolean;
  readonly tokens?: Readonly<Partial<Record<TokenKind, number>>>;
  readonly reasoningTokens?: number | undefined;
  readonly requests?: number;
  /** Latencies of one request that ended as `outcome` says, seconds. */
  readonly seconds?: Readonly<Partial<Record<LatencyName, number>>>;
  /** Latencies of many, each under the outcome that its source says. */
  readonly latencies?: Latencies;
}

interface Totals {
  readonly model: string | undefined;
  readonly tenant: string | undefined;
  readonly endpoint: string | undefined;
  readonly byOutcome: Partial<Record<Outcome, Partial<Record<TokenKind, number>>>>;
  readonly requests: Partial<Record<Outcome, number>>;
  readonly latencies: Partial<Record<LatencyKey, Histogram>>;
  reasoning: number | undefined;
}

/** Bounds for latencies that come one by one: those of the OpenTelemetry GenAI conventions (v1.41), seconds. */
const BOUNDS: Readonly<Record<LatencyName, readonly number[]>> = {
  time_to_first_token: [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  time_per_output_token: [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
  inter_token_latency: [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
  request_duration: [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
  queue_time: [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
};

/** More than this cannot have been used by what is reported at once; it would drown everything counted after it. */
export const amountMax = 1e12;
const SECOND = 1_000_000_000n;
/** Told apart in one sample; the audit record is bounded too. */
const DISPUTES_MAX = 1000;
const SECONDS_MAX = 1e9;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The running totals of one receiver. */
export class UsageTotals {
  readonly #info: ServerInfo;
  readonly #epoch: string;
  readonly #began: Nanos;
  readonly #keysMax: number;
  /** Label sets by the caller that brought them first. */
  readonly #keys: SharedBound;
  readonly #upstreams: readonly string[] | undefined;
  readonly #totals = new Map<string, Totals>();
  /** What was used since the last sample, each at its own second. */
  #pieces = new Map<string, Mutable<UsagePiece>>();
  #disputes: UsageDispute[] = [];
  /** Values that could not be added, and keys that were folded, since the last sample. */
  ignored = 0;
  folded = 0;

  /** `upstreams`: counts only what these answered. */
  constructor(
    info: ServerInfo,
    began: Nanos,
    epoch: string,
    keysMax = 1000,
    upstreams?: readonly string[] | undefined,
  ) {
    this.#info = info;
    this.#began = began;
    this.#epoch = epoch;
    this.#keysMax = keysMax;
    this.#keys = new SharedBound(keysMax);
    this.#upstreams = upstreams;
  }

  /** Adds what was used here. Values that are no counts are dropped and counted. */
  addUsage(usage: Usage, caller = ""): void {
    if (!this.isCounted(usage) && usage.takesBack !== true) return;
    if (this.#info.family === "gateway") this.#addPiece(usage);
    if (usage.takesBack === true) return;
    const totals = this.#of({ ...usage, endpoint: usage.endpoint ?? this.#info.endpoint }, caller);
    const outcome = usage.outcome ?? "ok";
    for (const [kind, amount] of Object.entries(usage.tokens ?? {})) {
      if (!this.#counts(amount)) continue;
      const of = totals.byOutcome[outcome] ?? {};
      of[kind as TokenKind] = (of[kind as TokenKind] ?? 0) + amount;
      totals.byOutcome[outcome] = of;
    }
    if (usage.requests !== undefined && this.#counts(usage.requests)) {
      totals.requests[outcome] = (totals.requests[outcome] ?? 0) + usage.requests;
    }
    if (usage.reasoningTokens !== undefined && this.#counts(usage.reasoningTokens)) {
      totals.reasoning = (totals.reasoning ?? 0) + usage.reasoningTokens;
    }
    for (const [name, seconds] of Object.entries(usage.seconds ?? {}) as [LatencyName, number][]) {
      const isTime = seconds >= 0 && seconds <= SECONDS_MAX;
      if (isTime) this.#observe(totals, name, usage.outcome, seconds);
      else this.ignored++;
    }
    for (const [key, histogram] of Object.entries(usage.latencies ?? {}) as [LatencyKey, Histogram][]) {
      const merged = mergeHistograms(totals.latencies[key], histogram);
      if (merged === undefined || !isCountable(merged)) this.ignored++;
      else totals.latencies[key] = merged;
    }
  }

  /** Whether this is usage of an upstream that is counted here. */
  isCounted({ upstream }: Usage): boolean {
    return isUpstream(upstream, this.#upstreams);
  }

  /** The product endpoint that usage without one of its own is counted under. */
  get endpoint(): string | undefined {
    return this.#info.endpoint;
  }

  /** Everything added so far, as one sample at `at`; clears the counts of what was dropped. */
  sample(at: Nanos, family: Family): TokenSample {
    const { ignored, folded } = this;
    this.ignored = 0;
    this.folded = 0;
    const disputes = this.#disputes;
    this.#disputes = [];
    const usage = [...this.#pieces.values()];
    this.#pieces = new Map();
    return {
      server: this.#info.id,
      family,
      sent: at,
      received: at,
      at,
      readings: [...this.#totals.values()].map((totals) => this.#reading(totals)),
      completeEpoch: this.#epoch,
      countedHere: true,
      ...(family === "gateway" ? { usage } : {}),
      ...(disputes.length > 0 ? { disputes } : {}),
      ignoredSamples: ignored,
      errors: folded > 0 ? [foldedMessage(folded, this.#keysMax, family)] : [],
    };
  }

  /** Notes a correction, a void or a conflict, for the audit record. */
  noteDispute(dispute: UsageDispute): void {
    if (this.#disputes.length < DISPUTES_MAX) this.#disputes.push(dispute);
  }

  /** Names are not folded here: what is billed keeps every tenant. */
  #addPiece(usage: Usage): void {
    const { countedAt, endTime, model, outcome = "ok", takesBack, tenant } = usage;
    // What is taken back says itself under which endpoint it was counted.
    const endpoint = usage.endpoint ?? (takesBack === true ? undefined : this.#info.endpoint);
    const second = endTime === undefined ? null : String(endTime / SECOND);
    const counted = countedAt === undefined ? null : String(countedAt);
    const key = JSON.stringify([model, tenant, endpoint, outcome, second, counted, takesBack]);
    const known = this.#pieces.get(key);
    const piece: Mutable<UsagePiece> = known ?? {
      outcome,
      tokens: {},
      requests: 0,
      ...defined({ model, tenant, endpoint, at: endTime, countedAt, takesBack }),
    };
    const tokens = { ...piece.tokens };
    for (const [kind, amount] of Object.entries(usage.tokens ?? {}) as [TokenKind, number][]) {
      if (isCount(amount)) tokens[kind] = (tokens[kind] ?? 0) + amount;
    }
    piece.tokens = tokens;
    if (usage.requests !== undefined && isCount(usage.requests)) piece.requests += usage.requests;
    this.#pieces.set(key, piece);
  }

  #reading(totals: Totals): TokenReading {
    const { model, tenant, endpoint, byOutcome, requests, latencies, reasoning } = totals;
    const tokens: Partial<Record<TokenKind, number>> = {};
    for (const kinds of Object.values(byOutcome)) {
      for (const [kind, amount] of Object.entries(kinds)) {
        tokens[kind as TokenKind] = (tokens[kind as TokenKind] ?? 0) + amount;
      }
    }
    const split = Object.keys(byOutcome).some((outcome) => outcome !== "ok");
    return {
      role: "combined",
      tokens,
      requests: { ...requests },
      volume: "finish",
      epoch: this.#epoch,
      epochBegan: this.#began,
      latencies: { ...latencies },
      ...(split ? { tokensByOutcome: structuredClone(byOutcome) } : {}),
      ...(model === undefined ? {} : { model }),
      ...(tenant === undefined ? {} : { tenant }),
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(reasoning === undefined ? {} : { reasoningTokens: reasoning }),
    };
  }

  #of({ model, tenant, endpoint }: Pick<Usage, "model" | "tenant" | "endpoint">, caller: string): Totals {
    const key = JSON.stringify([model ?? null, tenant ?? null, endpoint ?? null]);
    const known = this.#totals.get(key);
    if (known !== undefined) return known;
    const full = !this.#keys.has(caller);
    if (full && (tenant !== "other" || model !== undefined || endpoint !== undefined)) {
      this.folded++;
      // A last resort for models beyond the bound too: nothing is lost, only told apart no longer.
      const other = this.#totals.get(JSON.stringify([model ?? null, "other", endpoint ?? null]));
      return other ?? this.#of({ tenant: "other" }, caller);
    }
    const totals: Totals = {
      model,
      tenant,
      endpoint,
      byOutcome: {},
      requests: {},
      latencies: {},
      reasoning: undefined,
    };
    this.#totals.set(key, totals);
    this.#keys.change(caller, 1);
    return totals;
  }

  #observe(totals: Totals, name: LatencyName, outcome: Outcome | undefined, seconds: number): void {
    const bounds = BOUNDS[name];
    const key: LatencyKey = outcome === undefined ? name : `${name} ${outcome}`;
    const known = totals.latencies[key] ?? {
      bounds,
      counts: new Array<number>(bounds.length + 1).fill(0),
      sum: 0,
      count: 0,
    };
    if (known.bounds !== bounds) return void this.ignored++;
    const place = bounds.findIndex((bound) => seconds <= bound);
    const counts = known.counts.with(place === -1 ? bounds.length : place, 0);
    counts[place === -1 ? bounds.length : place] = (known.counts.at(place) ?? 0) + 1;
    totals.latencies[key] = { bounds, counts, sum: known.sum + seconds, count: known.count + 1 };
  }

  #counts(amount: number): boolean {
    if (isCount(amount)) return true;
    this.ignored++;
    return false;
  }
}

function isCount(amount: number): boolean {
  return Number.isSafeInteger(amount) && amount >= 0 && amount <= amountMax;
}

function foldedMessage(folded: number, keysMax: number, family: Family): string {
  const what = family === "gateway" ? "latencies of " : "";
  return `${what}${folded} records of tenants over the bound of ${keysMax} label sets went to "other"`;
}

function isCountable({ counts, count, sum }: Histogram): boolean {
  return counts.every(Number.isSafeInteger) && Number.isSafeInteger(count) && sum >= 0 && sum < Infinity;
}
