// What a person who looks at a running agent is shown, as `/-/view` sends it: the nouns of the page and of `tokenwatt top`.
// Keys are snake_case with the unit last; null = not known, never 0. Rates are of the last minute of settled intervals,
// totals are of what was committed. Tenants are there only where /metrics may show them.
import type { GpuState } from "../../model.ts";

/** Seconds by state. */
export type StateSeconds = Readonly<Record<GpuState, number>>;

/** Figures of the last minute: of a GPU, a server or the host. */
export interface ViewFigures {
  readonly state_seconds: StateSeconds;
  readonly tokens_per_second: number | null;
  readonly output_tokens_per_second: number | null;
  readonly tokens_per_joule: number | null;
  readonly tokens_per_gpu_hour: number | null;
  /** Token-active seconds per allocated second; says nothing of how many requests are served. */
  readonly token_active_utilization: number | null;
  readonly cost_per_hour: number | null;
}

/** A GPU or a MIG instance. */
export interface ViewGpu extends ViewFigures {
  readonly uuid: string;
  readonly index: number;
  readonly name: string;
  readonly parent: string | null;
  readonly mig_profile: string | null;
  /** The state most of the last second was in; null before the first interval. */
  readonly state: GpuState | null;
  /** One letter of `stateLetters` for each second of the last minute, oldest first; a space before the first. */
  readonly minute: string;
  readonly utilization: number | null;
  readonly power_watts: number | null;
  readonly power_limit_watts: number | null;
  readonly memory_used_bytes: number | null;
  readonly memory_total_bytes: number | null;
  readonly temperature_celsius: number | null;
  /** Who holds it: servers and, where nothing of ours does, holders by name. */
  readonly held_by: readonly ViewHold[];
  /** Why nothing is read of it. */
  readonly problem: string | null;
}

/** What one server or holder got of a GPU in the last minute. */
export interface ViewHold {
  readonly kind: string;
  readonly name: string;
  /** Share of the GPU's observed seconds. */
  readonly share: number;
  readonly watts: number | null;
}

/** A server or gateway. */
export interface ViewServer extends ViewFigures {
  readonly id: string;
  readonly type: string;
  readonly family: "engine" | "gateway";
  readonly address: string;
  readonly version: string | null;
  readonly models: readonly string[];
  /** UUIDs. */
  readonly gpus: readonly string[];
  /** Share of the GPU-seconds of the GPUs it is on. */
  readonly share: number | null;
  readonly running: number | null;
  readonly waiting: number | null;
  readonly kv_cache_utilization: number | null;
  /** It answered when it was read last; null before the first reading. */
  readonly ok: boolean | null;
}

/** Tokens made over what the held GPU-seconds could have held, of the engines whose capacity is known. */
export interface ViewCapacity {
  /** Of so many engines that held a GPU it is known. */
  readonly servers_known: number;
  readonly servers: number;
  readonly utilization: number;
  /** Between which bounds it lies in 9 of 10 cases, where a capacity is learned; null where none is. */
  readonly utilization_min: number | null;
  readonly utilization_max: number | null;
  /** Every server was seen at its limit, or is told it; else capacity beyond what was seen is extrapolated. */
  readonly limit_seen: boolean;
  /** Where it is known from, the weakest source of them: config, catalog, learned. */
  readonly source: string;
  /** Since the oldest of the learned capacities was seen last; null where none is learned. */
  readonly age_seconds: number | null;
}

/** A customer, from gateways and labels. */
export interface ViewTenant {
  readonly tenant: string;
  readonly tokens: number;
  readonly tokens_per_second: number | null;
  readonly requests: number;
  readonly error_share: number | null;
  readonly gpu_seconds: number | null;
  readonly joules: number | null;
  readonly cost: number | null;
}

/** The counter of a quota, this host's part of it. */
export interface ViewQuota {
  readonly name: string;
  /** What it counts for: tenant, endpoint, model. */
  readonly key: Readonly<Record<string, string>>;
  readonly count: string;
  /** Of a quota of cost. */
  readonly currency: string | null;
  readonly per: string;
  readonly used: number | null;
  /** False: the count began inside the window, and `used` is what is known of it. */
  readonly whole_window: boolean;
  readonly limit: number | null;
  readonly state: string;
  /** When its window ends, ISO 8601. */
  readonly until: string;
}

/** Where telemetry goes. */
export interface ViewDestination {
  readonly name: string;
  readonly state: string;
  readonly sent_points: number;
  readonly unsent_seconds: number;
  readonly last_error: string | null;
}

/** Something that is wrong, in doctor's words. */
export interface ViewAdvice {
  /** Doctor's id of it. */
  readonly id: string;
  readonly verdict: "warn" | "fail";
  readonly subject: string | null;
  readonly seen: string;
  readonly remedy: string | null;
}

/** An assumption that seconds or joules of the last minute rest on. */
export interface ViewUncertain {
  readonly reason: string;
  readonly says: string;
  readonly seconds: number;
  /** Of the observed seconds of the GPUs it is about. */
  readonly share: number;
  readonly gpus: readonly number[];
  readonly server: string | null;
}

/** What changes with every beat. */
export interface View {
  readonly type: "view";
  readonly host: string;
  readonly version: string;
  readonly unix_ms: number;
  readonly uptime_seconds: number;
  /** How much of the last minute is covered. */
  readonly window_seconds: number;
  readonly currency: string | null;
  readonly whole: ViewFigures & { readonly power_watts: number | null };
  /** What of their capacity the engines used of which it is known; null where it is of none. */
  readonly capacity: ViewCapacity | null;
  readonly gpus: readonly ViewGpu[];
  readonly servers: readonly ViewServer[];
  /** The largest; null where they may not be shown. */
  readonly tenants: readonly ViewTenant[] | null;
  readonly tenants_left_out: number;
  /** The fullest; those of tenants only where these may be shown. Null without a policy. */
  readonly quotas: readonly ViewQuota[] | null;
  readonly destinations: readonly ViewDestination[];
  readonly series: number;
  readonly durable: boolean;
  readonly advice: readonly ViewAdvice[];
  readonly uncertain: readonly ViewUncertain[];
}

/** The last hour in cells of equal length, oldest first; changes with every cell. */
export interface ViewHistory {
  readonly type: "history";
  readonly cell_seconds: number;
  /** End of the last cell. */
  readonly until_unix_ms: number;
  readonly gpus: readonly ViewGpuHistory[];
  readonly tokens_per_second: readonly (number | null)[];
  readonly tokens_per_joule: readonly (number | null)[];
  readonly watts: readonly (number | null)[];
  /** Joules of the hour by state. */
  readonly joules: Readonly<Record<GpuState | "unattributed", number>>;
}

/** The states of one GPU in each cell (an instance is named by its profile), in whole percent, in the order of `stateOrder`; empty = before the agent. */
export interface ViewGpuHistory {
  readonly uuid: string;
  readonly index: number;
  readonly name: string;
  readonly cells: readonly (readonly number[])[];
}

/** One letter for each state, for rows of them. */
export const stateLetters: Readonly<Record<GpuState, string>> = {
  token_active: "a",
  stalled: "s",
  parked: "p",
  other: "o",
  free: "f",
  unobserved: "u",
};
