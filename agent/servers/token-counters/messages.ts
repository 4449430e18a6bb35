// The messages of tokenwatt.v1 TokenCounters in the words of model.ts; encode.ts and decode.ts know their bytes.
// Facts: proto/tokenwatt/v1/token_counters.proto (protocol version 1).
import type { Family, Latencies, Outcome, ProgressKind, Role, TokenKind } from "../../model.ts";

/** The version of the contract this program speaks. */
export const protocolVersion = 1;
/** Label sets accepted from one target. */
export const labelSetsMax = 1000;

/** One (model, tenant, endpoint) of a server: cumulative since the epoch began. */
export interface CounterSet {
  readonly model?: string;
  readonly tenant?: string;
  readonly endpoint?: string;
  /** Tokens; without an outcome they count as ok. */
  readonly tokens: readonly {
    readonly kind: TokenKind;
    readonly outcome?: Outcome;
    readonly tokens: number;
  }[];
  readonly requests?: Readonly<Partial<Record<Outcome, number>>>;
  readonly reasoningTokens?: number;
  readonly running?: number;
  readonly waiting?: number;
  readonly kvCacheUtilization?: number;
  readonly latencies?: Latencies;
}

/** What one server counted, at the instant of its snapshot. */
export interface ServerSnapshot {
  /** Absent if the address is one server and stays that. */
  readonly serverId?: string;
  /** Changes whenever the counters start again from zero, and never otherwise. */
  readonly epochId: string;
  /** Time since the epoch began. */
  readonly epochUptimeNanos?: number;
  readonly role?: Role;
  readonly family?: Family;
  readonly movement?: ProgressKind;
  readonly version?: string;
  readonly gpus?: readonly string[];
  readonly pids?: readonly number[];
  /** Cumulative time with at least one request in execution. */
  readonly activeNanos?: number;
  /** Requests in execution and queued, where only known for the whole server. */
  readonly running?: number;
  readonly waiting?: number;
  readonly counters: readonly CounterSet[];
}

/** One message of the stream. */
export interface WatchSnapshot {
  readonly protocolVersion: number;
  readonly serverTimeUnixNanos: bigint;
  readonly uptimeNanos: number;
  readonly servers: readonly ServerSnapshot[];
}

/** A decoded message and how many values in it could not be kept. */
export interface DecodedWatch extends WatchSnapshot {
  readonly ignored: number;
  readonly errors: readonly string[];
}

/** What a client asks for. */
export interface WatchQuery {
  readonly protocolVersion: number;
  readonly intervalMs: number;
  readonly serverIds: readonly string[];
}

/** Names by their number in the contract. */
export const kinds = [undefined, "input_uncached", "input_cached", "input_unsplit", "output"] as const;
/** Names by their number in the contract. */
export const outcomes = [undefined, "ok", "error", "aborted", "rejected"] as const;
/** Names by their number in the contract. */
export const roles = [undefined, "combined", "prefill", "decode"] as const;
/** Names by their number in the contract. */
export const families = [undefined, "engine", "gateway"] as const;
/** Names by their number in the contract. */
export const movements = [undefined, "step", "finish", "estimate"] as const;
/** Names by their number in the contract. */
export const latencies = [
  undefined,
  "time_to_first_token",
  "time_per_output_token",
  "inter_token_latency",
  "request_duration",
  "queue_time",
] as const;
