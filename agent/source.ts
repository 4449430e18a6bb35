// What every source is given, what it returns and what it may throw. The rooms gpu/, servers/ and host/ implement
// these; daemon/ and cli/ call them. SourceError says which kinds of failure there are.
import type { z } from "zod";
import type { Family, Gap, GpuInfo, GpuSample, ServerInfo, StateRow, TokenSample } from "./model.ts";
import type { AccessCount } from "./platform/access-counts.ts";
import type { Clock } from "./platform/clock.ts";
import type { Log } from "./platform/log.ts";

/**
 * absent: not on this host, skip. transient: retry with backoff. ended: the thing measured is gone, stop quietly.
 * misconfigured: refuse to start. restart: only a restart of the agent helps (exit code 75).
 */
export type SourceErrorKind = "absent" | "transient" | "ended" | "misconfigured" | "restart";

/** What a peer that was asked did instead of answering: nobody listens there, it speaks otherwise, or took too long. */
export type PeerFault = "nobody" | "foreign" | "late";

/** Why a source could not be read. `message` says what, where, what was seen and wanted; `hint` says how to fix it. */
export class SourceError extends Error {
  readonly kind: SourceErrorKind;
  readonly hint: string | undefined;
  /** For whoever decides by it: the message is for people. Undefined where it was none of these, or nobody can tell. */
  readonly peer: PeerFault | undefined;

  constructor(
    kind: SourceErrorKind,
    message: string,
    options: { hint?: string; cause?: unknown; peer?: PeerFault } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "SourceError";
    this.kind = kind;
    this.hint = options.hint;
    this.peer = options.peer;
  }
}

/** What every source is given. */
export interface SourceContext {
  readonly clock: Clock;
  readonly log: Log;
  /** Aborted when the source must stop. */
  readonly signal: AbortSignal;
  /** How often to read a server whose entry does not say (`rates.scrapeMs`, `rates.scrapeSingleMs`). */
  readonly scrapeMs?: number;
  /** What a page seems to be on which a server's reader found no tokens: another server, or one to map. */
  readonly explainPage?: (page: Uint8Array, type: string) => string | undefined;
  /** Model name as a server or gateway says it, to model as served; an entry's own names go before. */
  readonly aliases?: Readonly<Record<string, string>>;
  /** What this host is called: `host.name` and `k8s.node.name`; the first is told to others. */
  readonly hostNames?: readonly string[];
  /** Rows this source's `state` gave away earlier, in this run or one before, by server id. */
  readonly remembered?: (server: string) => readonly StateRow[];
  /** Usage records counted in the last 35 days, as they were committed; absent = nothing survives this process. */
  readonly countedUsage?: CountedUsage;
}

/** Finds usage records that were counted, on disk: their number is not bounded by memory. */
export interface CountedUsage {
  /** What each of these keys was stored with; keys that are not known are left out. */
  find(keys: readonly string[]): Promise<ReadonlyMap<string, string>>;
}

// ---------------------------------------------------------------------------------------------- GPU backends

/** One round of readings; a GPU that could not be read is a gap, never a repeated last value. */
export interface GpuPoll {
  readonly sent: number;
  readonly received: number;
  readonly samples: readonly GpuSample[];
  readonly gaps: readonly Gap[];
}

/** An open GPU backend. `poll` has its own deadline and throws SourceError when nothing could be read at all. */
export interface GpuSource {
  readonly backend: string;
  inventory(): Promise<readonly GpuInfo[]>;
  poll(): Promise<GpuPoll>;
  /** Counts up when the set of GPUs changed: the caller asks for the inventory again. */
  readonly generation: number;
  /** Closes every device handle until `resume`; polls throw `transient` meanwhile. */
  release?(): Promise<void>;
  resume?(): Promise<void>;
  close(): Promise<void>;
  /** Facts for `/-/status` and `doctor`: path that won, versions, restarts, unsupported readings. */
  status(): Readonly<Record<string, unknown>>;
}

/** One line of gpu/registry.ts. `config` is the section `gpu.<name>`; `{}` must be accepted. */
export interface GpuBackend<Schema extends z.ZodType = z.ZodType> {
  readonly name: string;
  readonly config: Schema;
  /** Whether this backend can work here, and why (shown by doctor). Cheap; never throws. */
  detect(config: z.output<Schema>, context: SourceContext): Promise<Detection>;
  /** Throws SourceError (misconfigured) where `open` would, because of files the section names; starts nothing. */
  check?(config: z.output<Schema>): void;
  open(config: z.output<Schema>, context: SourceContext): Promise<GpuSource>;
}

/** What a backend found out about this host before it is opened. */
export interface Detection {
  readonly usable: boolean;
  /** One sentence: what was found or what was missing. */
  readonly reason: string;
  /** What to do about it, where the reason says it. */
  readonly hint?: string;
  readonly facts?: Readonly<Record<string, unknown>>;
}

// ---------------------------------------------------------------------------------------------- servers

/** A server that is asked: `poll` returns one reading, with sent and received instants, or throws SourceError. */
export interface PullServerSource {
  readonly kind: "pull";
  readonly info: ServerInfo;
  poll(): Promise<TokenSample>;
  /** Rows that changed since the last call, to be stored with everything accepted so far; see PushServerSource. */
  state?(): readonly StateRow[];
  close(): Promise<void>;
}

/** A server that pushes: `accept` resolves once the reading is recorded, only then may the peer be told so. */
export interface PushServerSource {
  readonly kind: "push";
  readonly info: ServerInfo;
  /** The peer is told that its usage is recorded: `accept` then resolves on the commit, not on the booking. */
  readonly acknowledges?: boolean;
  run(accept: (reading: TokenSample | Gap) => Promise<void>): Promise<void>;
  /**
   * Rows that changed since the last call, to be stored in one transaction with everything accepted so far; keys begin
   * `["receiver", <server id>`. May call `accept` first, so that what it remembers and what was booked agree.
   */
  state?(): readonly StateRow[];
  /** Who called since the last call, for the audit record. */
  takeAccess?(): readonly AccessCount[];
  close(): Promise<void>;
}

/** An opened source of token counters: asked at its period, or one that is pushed to. */
export type ServerSource = PullServerSource | PushServerSource;

/** What a server may not say of what it counts: whose it is, by which product endpoint, cached input apart, tokens at all. */
export type Unsaid = "tenant" | "endpoint" | "cached input" | "tokens";

/** One line of servers/registry.ts. `config` is one entry of the list `servers.<name>`. */
export interface ServerType<Schema extends z.ZodType = z.ZodType> {
  readonly name: string;
  readonly config: Schema;
  /** The smallest entry `config` accepts: the contract test, `config init` and the README show it. */
  readonly example: Readonly<Record<string, unknown>>;
  /** What it counts for, where that is the same for every server of the type. */
  readonly family?: Family;
  /** What it can never say under an entry; absent = it may say everything. */
  unsaid?(entry: z.output<Schema>): readonly Unsaid[];
  open(entry: z.output<Schema>, context: SourceContext): ServerSource;
  /** Throws SourceError (misconfigured) where `open` would, because of files the entry names; starts nothing. */
  check?(entry: z.output<Schema>): void;
  /** Prometheus text: recognises a page by its label signature and reads it. Absent for gRPC sources. */
  readonly page?: PageReader;
}

/** How one kind of server reads its Prometheus page. */
export interface PageReader {
  /** Normalised family names the reader needs; other lines of a page are dropped unread. Absent = all. */
  readonly families?: readonly string[];
  /** Where a default installation has the page. */
  readonly path?: string;
  /** It repeats what engines of this host show themselves: read only where configured, never found beside them. */
  readonly merges?: boolean;
  /** Why this page is of this server, or undefined if it is not. */
  recognises(page: MetricPage): string | undefined;
  /** `noting`: with the label sets that were summed, for people who look at one page. */
  read(page: MetricPage, noting?: "noting"): PageReading;
}

/** What one metric page said, as readings in the words of model.ts and what was left out of them. */
export interface PageReading {
  readonly readings: readonly import("./model.ts").TokenReading[];
  /** Label sets that were summed into each reading, same order as `readings`; empty unless they were to be noted. */
  readonly summed: readonly (readonly Readonly<Record<string, string>>[])[];
  /** Cumulative time with at least one request in execution, and the GPUs used, where the page says so. */
  readonly activeNanos?: number;
  /** What prefill and decode of the requests that ended took, where the page says so. */
  readonly phaseTimes?: import("./model.ts").PhaseTimes;
  readonly gpus?: readonly string[];
  readonly ignoredSamples: number;
  readonly errors: readonly string[];
}

/** One sample line of a metric page; names are normalised (`:` to `_`, `_total` stripped from counters). */
export interface MetricSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A parsed Prometheus or OpenMetrics page, only the families that were asked for. */
export interface MetricPage {
  /** Samples by normalised name, as in the page, histogram parts under `<family>_bucket`, `_sum`, `_count`. */
  readonly samples: ReadonlyMap<string, readonly MetricSample[]>;
  /** NaN, infinite, negative counters and lines that could not be read. */
  readonly ignoredSamples: number;
  /** What was wrong with the page, with line numbers; bounded. */
  readonly errors: readonly string[];
  /** It shows what the page before showed: the same samples in the same order with the same values, and nothing wrong. */
  readonly isSame?: boolean;
}
