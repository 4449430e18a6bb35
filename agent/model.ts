// The vocabulary of tokenwatt: the nouns every room speaks, types only.
// Quantities past a source are in base units: seconds, joules, watts, bytes, tokens, ratios 0-1. Booked quantities
// are integers: tokens, nanoseconds, millijoules. `undefined` means "this host cannot say"; 0 is a measurement.

/**
 * Integer nanoseconds on the agent's monotonic clock, 0 at the agent's start. Above 2^53 (104 days) instants fall on
 * even, later on fourfold nanoseconds; differences of such instants stay exact integers, so durations still add up.
 */
export type Nanos = number;

/** Integer nanoseconds since 1970-01-01 UTC. */
export type UnixNanos = bigint;

// ---------------------------------------------------------------------------------------------- GPUs

/** One GPU or MIG instance, as inventory found it. */
export interface GpuInfo {
  /** `GPU-...` or `MIG-...`; the key of everything said about it. */
  readonly uuid: string;
  /** UUID of the board under MIG. */
  readonly parent?: string;
  /** Share of the board: 1, or GPU-instance slices / slices of the full profile (METERING.md 2). */
  readonly weight: number;
  readonly index: number;
  /** Product name, exported as `hw.model`. */
  readonly name: string;
  readonly pciBusId?: string;
  readonly memoryTotalBytes?: number;
  /** Enforced power limit. */
  readonly powerLimitWatts?: number;
  readonly driverVersion?: string;
  readonly architecture?: string;
  readonly migProfile?: string;
  /** Why a reading is missing on this GPU: capability name -> reason. */
  readonly unsupported?: Readonly<Record<string, string>>;
  /** Why nothing of it can be read although it is counted; its time is unobserved. */
  readonly unreadable?: string;
}

/**
 * A driver's own history, oldest first: instants, and for each a value that stands for the time since the one before it. Two
 * columns, for a driver keeps fifty a second of each GPU.
 */
export interface Ring {
  readonly instants: readonly Nanos[];
  readonly values: readonly number[];
}

/** A process that holds a GPU, as the driver lists it. */
export interface GpuProcess {
  readonly pid: number;
  readonly memoryBytes?: number;
  /** MPS clients are compute processes too; the MPS server itself is never a resident. */
  readonly type: "compute" | "mps";
  /** Executable name where the source knows it: tells DCGM or display servers from workloads. */
  readonly name?: string;
}

/** A driver sample of one process's share of the SMs since the sample before it. */
export interface ProcessShare {
  readonly pid: number;
  readonly at: Nanos;
  readonly smRatio: number;
}

/** One reading of one GPU. Every field but identity and instant may be absent. */
export interface GpuSample {
  readonly gpu: string;
  /** The instant the reading stands for. */
  readonly at: Nanos;
  /** Cumulative since `energyEpoch` began, mJ. */
  readonly energyMillijoules?: number;
  /** Changes when the driver was reloaded or the GPU was reset. */
  readonly energyEpoch?: string;
  /** Mean over the last second where the GPU offers it. */
  readonly powerWatts?: number;
  readonly powerInstantWatts?: number;
  /** Of the module the GPU is a part of (Grace Hopper), GPU included: another boundary, never added to the GPU's. */
  readonly modulePowerWatts?: number;
  /** Share of the last driver window with a kernel resident. */
  readonly utilizationRatio?: number;
  /** Share of time the memory controller was busy. */
  readonly memoryBusyRatio?: number;
  /** Busy share of each window of the driver's ring since the last reading, oldest first. */
  readonly utilizationRing?: Ring;
  /** Watts since the last reading, oldest first. */
  readonly powerRing?: Ring;
  readonly memoryUsedBytes?: number;
  readonly processes?: readonly GpuProcess[];
  readonly processShares?: readonly ProcessShare[];
  readonly temperatureCelsius?: number;
  readonly memoryTemperatureCelsius?: number;
  readonly smClockHertz?: number;
  readonly memoryClockHertz?: number;
  /** Share of the last driver window in which the video encoder or decoder worked. */
  readonly encoderRatio?: number;
  readonly decoderRatio?: number;
  /** Enforced limit now: an operator may change it at any time. */
  readonly powerLimitWatts?: number;
  /** GPM or DCGM, 0-1. */
  readonly graphicsActiveRatio?: number;
  readonly smActiveRatio?: number;
  readonly tensorActiveRatio?: number;
  readonly dramActiveRatio?: number;
  /** Cumulative seconds per throttle reason. */
  readonly throttleSeconds?: Readonly<Record<string, number>>;
  /** Cumulative ECC errors. */
  readonly eccErrors?: { readonly corrected?: number; readonly uncorrected?: number };
  /** XID code -> events seen since the source opened. */
  readonly xidEvents?: Readonly<Record<string, number>>;
  /** Bytes since the source opened. */
  readonly trafficBytes?: {
    readonly pcieTransmit?: number;
    readonly pcieReceive?: number;
    readonly nvlinkTransmit?: number;
    readonly nvlinkReceive?: number;
  };
}

// ---------------------------------------------------------------------------------------------- tokens

/** Disjoint: a token is of exactly one kind. Reasoning is a subset of output and no kind. */
export type TokenKind = "input_uncached" | "input_cached" | "input_unsplit" | "output";
/** How a request ended; `rejected` = refused before a token: rate limit, quota, queue full. */
export type Outcome = "ok" | "error" | "aborted" | "rejected";
/** What a server does of a request: all of it, or one half of a disaggregated pair. */
export type Role = "combined" | "prefill" | "decode";
/** When counters move: with each engine step, when a request ends, or integrated from a rate. */
export type ProgressKind = "step" | "finish" | "estimate";
/** Whether counters are of an engine or of a gateway before it; the two are never added. */
export type Family = "engine" | "gateway";

/** Cumulative histogram; `counts` has one entry more than `bounds` (the last is above the highest bound). */
export interface Histogram {
  readonly bounds: readonly number[];
  /** Per bucket, not cumulative over buckets. */
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

/** The latencies a server may publish as histograms, in seconds. */
export type LatencyName =
  | "time_to_first_token"
  | "time_per_output_token"
  | "inter_token_latency"
  | "request_duration"
  | "queue_time";

/**
 * A latency of the requests that ended one way, `request_duration error`; the name alone where the source does not say how
 * they ended. No request is in two of one name, so that all of a name together are the latency of all requests.
 */
export type LatencyKey = LatencyName | `${LatencyName} ${Outcome}`;

/** Distributions of latencies, those of each outcome apart where it is known. */
export type Latencies = Readonly<Partial<Record<LatencyKey, Histogram>>>;

/** Cumulative time a server says the two phases of its requests took, each request added when it ended; waiting is no part of it. */
export interface PhaseTimes {
  readonly requests: number;
  /** From being taken up to the first token, and from there to the last one. */
  readonly prefillNanos: Nanos;
  readonly decodeNanos: Nanos;
}

/** Cumulative counters of one (model, tenant, endpoint) of a server, in the normal form of METERING.md 3. */
export interface TokenReading {
  readonly model?: string;
  readonly tenant?: string;
  readonly endpoint?: string;
  readonly role: Role;
  /** Booked tokens by kind; absent = the server does not say. */
  readonly tokens: Readonly<Partial<Record<TokenKind, number>>>;
  /** The same tokens split by outcome where the source knows it (gateways); kinds absent here count as ok. */
  readonly tokensByOutcome?: Readonly<Partial<Record<Outcome, Readonly<Partial<Record<TokenKind, number>>>>>>;
  readonly reasoningTokens?: number;
  /** Counters that move soonest, for activity only; absent = `tokens`. */
  readonly progress?: { readonly input: number; readonly output: number };
  readonly requests: Readonly<Partial<Record<Outcome, number>>>;
  readonly running?: number;
  readonly waiting?: number;
  readonly kvCacheUtilization?: number;
  readonly latencies?: Latencies;
  /** Its data-parallel ranks one by one, where the source tells several apart: a part of all of the above. */
  readonly ranks?: readonly RankReading[];
  readonly volume: ProgressKind;
  /** How the source's counters that `progress` (or `tokens`) come from move; absent = `volume`. */
  readonly progressKind?: ProgressKind;
  /** Identity of the run these counters began with; absent = the source has none, only a fall shows a restart. */
  readonly epoch?: string;
  /** When that run began, if the server says so. */
  readonly epochBegan?: Nanos;
}

/** What one data-parallel rank of a server counted: its part of a reading. */
export interface RankReading {
  /** As the source numbers it. */
  readonly rank: string;
  /** Kinds absent here are not told apart by rank. */
  readonly tokens: Readonly<Partial<Record<TokenKind, number>>>;
  /** Counters that move soonest; absent = `tokens`. */
  readonly progress?: { readonly input: number; readonly output: number };
  /** That ended, however. */
  readonly requests?: number;
  readonly running?: number;
  readonly waiting?: number;
  /** Sums and counts alone of `request_duration`, `time_to_first_token` and `queue_time`. */
  readonly latencies?: Latencies;
  /** Cumulative time with at least one request of this rank in execution. */
  readonly activeNanos?: number;
}

/** One reading of one server. */
export interface TokenSample {
  readonly server: string;
  readonly family: Family;
  /** When the request left, when the answer was complete, and the instant the counters stand for in between. */
  readonly sent: Nanos;
  readonly received: Nanos;
  readonly at: Nanos;
  readonly readings: readonly TokenReading[];
  /** Cumulative time with at least one request in execution, where the server publishes it. */
  readonly activeNanos?: number;
  readonly phaseTimes?: PhaseTimes;
  /**
   * The epoch this sample is complete for: a (model, tenant, endpoint) it does not name has counted nothing in that
   * epoch (tokenwatt.v1 promises it). Absent = a missing label set says nothing.
   */
  readonly completeEpoch?: string;
  /** The totals are the agent's own and begin with it: a new epoch is a start of the agent, and nothing was lost in it. */
  readonly countedHere?: true;
  /** Where the server says it runs. */
  readonly gpus?: readonly string[];
  readonly pids?: readonly number[];
  readonly version?: string;
  /** Why the time since the sample before is known less well than usual; absent = it is not. */
  readonly doubt?: UncertainReason;
  /** Its counters stand lower than before without a restart: it shows what was so at an earlier instant than the last one. */
  readonly isOlder?: true;
  /** What single requests used since the last sample, each at its own time; absent = the readings are booked instead. */
  readonly usage?: readonly UsagePiece[];
  /**
   * The scale its counters are on: the source keeps the base of every series, so that on one scale a value never falls, a
   * restart is no fall, and a label set that is new counts whole. Absent = the counters are the server's own.
   */
  readonly scale?: string;
  /** Times the server was found to have begun again since the sample before; for samples on a scale. */
  readonly restarts?: number;
  /** What a gateway enforces by itself, as it says; absent = its page says nothing of it. */
  readonly limits?: readonly GatewayLimit[];
  /** What of its counters was held back or left out, and why. */
  readonly notes?: readonly SourceNote[];
  /** Corrections, voids and conflicting records among them, for the audit record. */
  readonly disputes?: readonly UsageDispute[];
  /** Samples dropped as NaN, negative or absurd, and page errors, in this reading. */
  readonly ignoredSamples: number;
  readonly errors: readonly string[];
}

/** What a gateway says it enforces by itself: a budget of one customer, and what is left of it. */
export interface GatewayLimit {
  readonly tenant: string;
  /** ISO 4217. */
  readonly currency: string;
  readonly limit: number;
  /** Below 0 where it is overspent; absent = the gateway does not say. */
  readonly remaining?: number;
  /** When it begins again; absent = never, or the gateway does not say. */
  readonly resetsAt?: Nanos;
}

/** What requests of one customer used, and when. */
export interface UsagePiece {
  readonly model?: string;
  readonly tenant?: string;
  readonly endpoint?: string;
  readonly outcome: Outcome;
  readonly tokens: Readonly<Partial<Record<TokenKind, number>>>;
  readonly requests: number;
  /** When it ended; absent = the source does not say, and it counts as used when it arrived. */
  readonly at?: UnixNanos;
  /**
   * When it was counted: what was known then decides under which price and server it is booked, and a take-back names the
   * instant of what it takes back. Absent = now.
   */
  readonly countedAt?: UnixNanos;
  /** Takes back what was booked before under the same names: a correction or a void. */
  readonly takesBack?: boolean;
}

/**
 * What a source did with counters that do not go on. `held`: a series fell and is held at its base. `page_held`: a page
 * waits for the next ones. `rebased`: a lower level is the new base, nothing of it counted. `refused`: a rise no server
 * can make. `gone`: series are no longer there, what they counted stays. `several`: several processes answer.
 */
export type NoteKind = "held" | "page_held" | "rebased" | "refused" | "gone" | "several";

/** One of them, for the log, the status and a counter. */
export interface SourceNote {
  readonly kind: NoteKind;
  /** Series, or pages, it is about. */
  readonly amount: number;
  readonly text: string;
  readonly hint?: string;
}

/** A record that changes what was booked before, or says something else under an id that was counted. */
export interface UsageDispute {
  readonly kind: "correction" | "void" | "conflict";
  readonly id: string;
  /** The record that is corrected. */
  readonly corrects?: string;
}

/** One accepted reading of a server's counters. */
export interface ServerPoll {
  readonly at: Nanos;
  /** Cumulative progress counters, corrected for resets: they never fall. */
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Requests running, as read at the poll; undefined = the server cannot say. */
  readonly inFlight?: number;
  /** Requests waiting, as read at the poll; undefined = the server cannot say. */
  readonly waiting?: number;
  /** Cumulative own busy time, where the server publishes it. */
  readonly activeNanos?: number;
  /** Cumulative, as they moved between polls; they never fall. */
  readonly phaseTimes?: PhaseTimes;
  readonly progress: ProgressKind;
  /** Why the time since the poll before is known less well than usual. */
  readonly doubt?: UncertainReason;
  /** It shows what was so before the poll before: one of several copies answered, an older one. */
  readonly isOlder?: true;
  /** The same of each data-parallel rank that was ever told apart; absent = none is. */
  readonly ranks?: readonly RankPoll[];
}

/** What one rank had counted at a poll: cumulative, never falling, 0 where the rank was first seen. */
export interface RankPoll {
  readonly rank: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Undefined = this page did not say. */
  readonly inFlight?: number;
  readonly activeNanos?: number;
}

/** A stretch a source could not be read, published instead of a repeated last value. */
export interface Gap {
  /** `gpu:<uuid>`, `gpu` (the whole backend) or `server:<id>`. */
  readonly source: string;
  readonly at: Nanos;
  readonly reason: string;
  /** How to mend it, where that is known. */
  readonly hint?: string;
}

/** A configured or discovered server, before any reading. */
export interface ServerInfo {
  readonly id: string;
  /** Registry name: "vllm", "token-counters", ... */
  readonly type: string;
  readonly family: Family;
  readonly address: string;
  /** The TCP port of its address; absent where it has none. */
  readonly port?: number;
  readonly pollMs: number;
  /** Placement from the config (rung 1 of METERING.md 4). */
  readonly gpus?: readonly string[];
  readonly pids?: readonly number[];
  /** systemd unit or cgroup path its processes are in. */
  readonly unit?: string;
  readonly cgroup?: string;
  /** The Kubernetes pod it runs in; `uid` places its processes (rung 2). */
  readonly pod?: {
    readonly namespace: string;
    readonly name: string;
    readonly uid?: string | undefined;
  };
  /** Configured product endpoint. */
  readonly endpoint?: string;
  /** Which gateway its tenants' series are of; absent = the server's own id. */
  readonly gateway?: GatewayScope;
}

/** Which gateway is read, and how it is made sure that no other host counts the same records (METERING.md 3). */
export interface GatewayScope {
  /** `tokenwatt.gateway.id`: the same on every host that reads this gateway. */
  readonly id: string;
  /** `owner`: one host reads it. `upstreams`: each host its own upstreams. `all`: everything, whoever else may read it. */
  readonly scope: "all" | "owner" | "upstreams";
}

// ---------------------------------------------------------------------------------------------- settled intervals

/** Where a second of a GPU goes: exactly one of six (METERING.md 2). */
export type GpuState = "token_active" | "stalled" | "parked" | "other" | "free" | "unobserved";
/** The states in which a metered server holds the GPU. */
export type AllocatedState = "token_active" | "stalled" | "parked";
/** By what a GPU was shared among its residents (METERING.md 4). */
export type AttributionMethod =
  | "direct"
  | "equal"
  | "configured"
  | "sm_share"
  | "own_power"
  | "token_share"
  | "mig";
/** By what token-active time was found (METERING.md 2). */
export type ActivityMethod = "active_time" | "counter_gpu" | "counter_moved" | "in_flight" | "unknown";
/** By what energy was measured: the counter, power integrated, or not at all. */
export type EnergyMethod = "counter" | "integrated" | "integrated_instant" | "none";

/**
 * The assumption a figure rests on (METERING.md 1.5). `coarse_windows`: GPU readings too far apart to show when work
 * began and ended. `cached_page`: the counters stood for an older instant than the poll. `unread_page`: the time was decided
 * before the server was read again, because its polls failed. `busy_share`: requests shorter
 * than a window, so their time is the busy share over the level of a wholly busy window. `half_of_work`: work that a
 * server and somebody else may have done, halved. `shared_work`: the part of such work, or of a long time between two reads,
 * that its tokens make at the pace it was seen at, or that its GPU may have done for other ranks. `unexplained_work`: work
 * with a request in flight and no sign of progress. `floor_assumed`: the power of holding the GPU was never measured. `token_share`, `equal_share`: energy shared
 * by tokens, or equally, for want of the driver's shares per process. `equal_watts`: energy shared by time, a server
 * or MIG instance whose own watts were not seen counted with those of the others. `fitted_work`: energy shared by what each
 * one's work was fitted to cost, which is known only roughly. `sampled_power`: energy integrated from readings of power that
 * tell of a part of the time between them. `partial_counters`: counters read through a part of
 * their series. `estimated_counters`: tokens integrated from a rate that the server shows, or shared by the progress of
 * ranks. `assumed_ranks`: which GPU a data-parallel rank is on was assumed, and the GPU does not do what its rank says.
 */
export type UncertainReason =
  | "coarse_windows"
  | "cached_page"
  | "unread_page"
  | "busy_share"
  | "half_of_work"
  | "shared_work"
  | "unexplained_work"
  | "floor_assumed"
  | "token_share"
  | "equal_share"
  | "equal_watts"
  | "fitted_work"
  | "sampled_power"
  | "partial_counters"
  | "estimated_counters"
  | "assumed_ranks";

/** Seconds and joules of a GPU that rest on one assumption; each second and each joule counts under one reason at most. */
export interface Uncertain {
  /** The server whose activity was assumed; absent where the assumption is about the GPU. */
  readonly server?: string;
  readonly reason: UncertainReason;
  readonly nanos: number;
  readonly millijoules: number;
}

/**
 * What a server's token-active time was spent on. `prefill`: prompts, up to the first token of each request. `decode`: the
 * tokens after it. `unsplit`: which of them is not known.
 */
export type Phase = "prefill" | "decode" | "unsplit";
/**
 * How the phase is known. `counted`: one kind of token moved between two polls. `fitted`: both did, divided by what each
 * costs, learned from the server's own intervals. `unknown`: not at all.
 */
export type PhaseMethod = "counted" | "fitted" | "unknown";

/** The part of a server's token-active time and energy on a GPU that was one phase. */
export interface PhaseShare {
  readonly phase: Phase;
  readonly method: PhaseMethod;
  readonly nanos: number;
  readonly millijoules: number;
  /** What of it, or beyond it, may be the other phase: one standard error. Booked with prefill. */
  readonly uncertainNanos: number;
  readonly uncertainMillijoules: number;
}

/** What one resident got of one GPU in one interval. `server` is an id, or `unmetered` for all unknown processes. */
export interface ResidentShare {
  readonly server: string;
  readonly nanos: Readonly<Record<AllocatedState, number>>;
  readonly millijoules: Readonly<Record<AllocatedState, number>>;
  /** How the energy above the floor was shared. */
  readonly method: AttributionMethod;
  /** How the GPU-seconds were shared, where that is another method: equal or configured beside `sm_share`. */
  readonly timeMethod?: AttributionMethod;
  /** Sums to its token-active time and energy; absent = it had none. */
  readonly phases?: readonly PhaseShare[];
}

/** Who holds a GPU, by name: the first of these that its process belongs to. */
export interface Holder {
  readonly kind: "pod" | "job" | "container" | "unit" | "user" | "unknown";
  /** `namespace/pod/container`, a Slurm job's number, a container's short id, a systemd unit, a user. */
  readonly name: string;
  readonly namespace?: string;
  readonly pod?: string;
  readonly container?: string;
  /** Of a Slurm job. */
  readonly account?: string;
  readonly user?: string;
}

/** What a holder got of one GPU in one interval, metered or not. */
export interface HolderShare {
  readonly holder: Holder;
  readonly nanos: number;
  readonly millijoules: number;
}

/** What one GPU did in a settled interval: nanoseconds and millijoules by state. */
export interface GpuInterval {
  readonly gpu: string;
  /** Sum to (to - from) x weight exactly. */
  readonly nanos: Readonly<Record<GpuState, number>>;
  /** Sum, `unattributed` included, to the accepted counter movement plus integrated windows exactly. */
  readonly millijoules: Readonly<Record<GpuState | "unattributed", number>>;
  readonly busyNanos: number;
  readonly activityMethod: ActivityMethod;
  readonly energyMethod: EnergyMethod;
  /** Counter movement refused as physically impossible (METERING.md 4). */
  readonly rejectedMillijoules: number;
  readonly residents: readonly ResidentShare[];
  /** A second view: sums to the seconds and joules of `other` and the allocated states. Absent = nothing holds it. */
  readonly holders?: readonly HolderShare[];
  /** What of the above rests on an assumption; absent = nothing does. */
  readonly uncertain?: readonly Uncertain[];
}

/** Tokens, requests and latencies a poll saw move, per reading key; booked in the interval the poll ended in. */
export interface TokenIncrement {
  readonly server: string;
  readonly family: Family;
  readonly model?: string;
  readonly tenant?: string;
  readonly endpoint?: string;
  readonly role: Role;
  readonly tokens: Readonly<Partial<Record<TokenKind, number>>>;
  readonly tokensByOutcome?: Readonly<Partial<Record<Outcome, Readonly<Partial<Record<TokenKind, number>>>>>>;
  readonly reasoningTokens: number;
  readonly requests: Readonly<Partial<Record<Outcome, number>>>;
  readonly latencies: Latencies;
  readonly resets: number;
  /** Read after a restart of the agent or a reconnect: real, but not matched to observed GPU time. */
  readonly late: boolean;
  readonly at: Nanos;
  /** The assumption its tokens rest on; absent = they were counted. */
  readonly doubt?: UncertainReason;
  /** What each data-parallel rank has of it, where they are told apart. */
  readonly ranks?: readonly RankIncrement[];
  /** Which part of its tokens each GPU made, by its ranks; they sum to 1. Absent = it is not known. */
  readonly onGpus?: Readonly<Record<string, number>>;
  /** Made by ranks whose GPUs are on other hosts: they meet no GPU time of this one. */
  readonly elsewhere?: true;
}

/** The part of an increment that one rank made. */
export interface RankIncrement {
  readonly rank: string;
  readonly tokens: Readonly<Partial<Record<TokenKind, number>>>;
  /** That ended, however. */
  readonly requests: number;
  readonly latencies: Latencies;
}

/** What one server did in a settled interval: its own states, and the tokens its polls saw. */
export interface ServerInterval {
  readonly server: string;
  /** Wall time of the server's own states; sums to (to - from) while the server is known. */
  readonly nanos: Readonly<Record<AllocatedState | "unknown", number>>;
  readonly activityMethod: ActivityMethod;
  readonly increments: readonly TokenIncrement[];
}

/** One decided interval, final: posted and exported under its own times, never changed. */
export interface SettledInterval {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly gpus: readonly GpuInterval[];
  readonly servers: readonly ServerInterval[];
  /** Samples that came after their interval had settled; their tokens are booked here. */
  readonly lateSamples: number;
  /** Broken laws found at settling; their interval is booked as `unattributed`. */
  readonly violations: readonly string[];
}

// ---------------------------------------------------------------------------------------------- ledger

/** Dimensions under their full OTLP attribute names, e.g. `tokenwatt.server.id`. */
export type Dimensions = Readonly<Record<string, string>>;

/** A movement of one booked quantity. Amounts are integers in the quantity's ledger unit, never negative. */
export interface Posting {
  /** Metric name of METERING.md 5, e.g. `tokenwatt.gpu.time`; its ledger unit is in the metrics table. */
  readonly metric: string;
  readonly dimensions: Dimensions;
  readonly amount: number;
  /**
   * Attributes the ledger keeps it under where they are more than what is exported: a price, the product behind a
   * subset. `false` = exported only; the ledger has it in other rows.
   */
  readonly kept?: Dimensions | false | undefined;
  /** Kept by the ledger and not exported. */
  readonly keptOnly?: true | undefined;
  /** The instant it belongs to, where that is not the interval's: its bucket may be closed already. */
  readonly at?: UnixNanos | undefined;
  /** Takes back what was booked before under `kept`; exported totals never fall. */
  readonly takesBack?: true | undefined;
}

/** A movement of a histogram: counts and sums since the posting before. */
export interface HistogramPosting {
  readonly metric: string;
  readonly dimensions: Dimensions;
  readonly histogram: Histogram;
  /** What the ledger keeps it under, where that is more than what is exported. */
  readonly kept?: Dimensions;
}

/** A movement of a sum or of a histogram. */
export type AnyPosting = Posting | HistogramPosting;

/** A value as last seen, not additive over time. */
export interface Gauge {
  readonly metric: string;
  readonly dimensions: Dimensions;
  readonly value: number;
  readonly at: Nanos;
  /** The source's poll interval: the gauge is not exported once three of them have passed without a new value. */
  readonly everyMs: number;
}

/** One series as committed. */
export interface LedgerPoint {
  readonly metric: string;
  readonly dimensions: Dimensions;
  /** Stable for the life of the series: key of encoder caches. */
  readonly series: number;
  /** Start of the cumulative run; 0 for gauges. */
  readonly start: UnixNanos;
  readonly time: UnixNanos;
  /** Total in ledger units (integers as bigint), or the gauge's value. */
  readonly value: bigint | number | Histogram;
  /** First time this series is exported: send 0 at start + 1 ms before it. */
  readonly isNew: boolean;
  /** The series ends here: send NO_RECORDED_VALUE once. */
  readonly ended: boolean;
  /** It had ended and was used again a short while ago. */
  readonly back?: SeriesBack;
}

/** What a series that comes back had when it ended: said before the new total, so that a consumer sees the difference. */
export interface SeriesBack {
  readonly value: bigint | Histogram;
  /** When to say so; in the first snapshot only. */
  readonly at?: UnixNanos;
}

/** A series under its name. */
export interface ShownName {
  /** Stable for the life of the series. */
  readonly id: number;
  readonly kind: "sum" | "histogram" | "gauge";
  readonly metric: string;
  readonly dimensions: Dimensions;
}

/** The series of a snapshot, by place: the same object from beat to beat while none begins, ends or starts again. */
export interface ShownSeries {
  readonly names: readonly ShownName[];
  /** Start of each cumulative run; 0 for gauges. */
  readonly starts: BigInt64Array;
}

/** The values of a snapshot, by place. */
export interface ShownValues {
  /** Of a sum its upper word of 32 bits, of a gauge the value, of a histogram where it is in `histograms`. */
  readonly high: Float64Array;
  /** Of a sum its lower word. */
  readonly low: Uint32Array;
  readonly histograms: readonly Histogram[];
}

/** What a snapshot says of a series beside its value. */
export type SaidOnce = Pick<LedgerPoint, "isNew" | "ended" | "back">;

/** What exporters may see: everything committed, nothing later. Nothing in it ever changes. */
export interface LedgerSnapshot {
  readonly sequence: number;
  readonly time: UnixNanos;
  readonly series: ShownSeries;
  readonly values: ShownValues;
  /** By place, for few: those that begin, end or are just back. */
  readonly said: ReadonlyMap<number, SaidOnce>;
  /** The same with an object for each series, made whenever it is asked for: for readers that look now and then. */
  readonly points: readonly LedgerPoint[];
}

// ---------------------------------------------------------------------------------------------- durable state

/** A series as plain data. Instants are decimal unix nanoseconds, totals decimal integers: they outgrow a double. */
export interface SeriesState {
  readonly series: number;
  readonly metric: string;
  readonly dimensions: Dimensions;
  readonly start: string;
  readonly total: string | Histogram;
  /** Sequence of the first snapshot that carried it. */
  readonly announced: number;
  /** When it ended; absent while it lives. */
  readonly ended?: string;
  /** `exported`: its rows are kept under other series. `kept`: it has rows and is never exported. Absent = both. */
  readonly role?: SeriesRole;
}

/** Whether a series is sent and shown, or kept for the ledger alone. */
export type SeriesRole = "exported" | "kept";

/**
 * A remembered fact under a stable key, `value` as JSON: last source samples with epochs, carried remainders. An empty
 * `value` forgets the key.
 */
export interface StateRow {
  readonly key: string;
  readonly value: string;
}

/** Number of a 15-minute UTC bucket: unix seconds / 900. */
export type BucketNumber = number;

/** Length of a bucket. */
export const BUCKET_NANOS = 900_000_000_000n;

/** What one series moved within one bucket: an absolute total, so that writing it twice changes nothing. */
export interface BucketRow {
  readonly bucket: BucketNumber;
  readonly series: number;
  /** 0 until the bucket closed; a closed bucket changes only by the next revision. */
  readonly revision: number;
  readonly amount: bigint | Histogram;
}

/** Sums by number of their series, in two words: `high * 2^32 + low`. */
export interface AmountColumn {
  readonly series: Float64Array<ArrayBuffer>;
  readonly high: Int32Array<ArrayBuffer>;
  readonly low: Uint32Array<ArrayBuffer>;
}

/** Rows of sums in a bucket that is open, or closes with this commit. */
export interface BucketColumn extends AmountColumn {
  readonly bucket: BucketNumber;
}

/** What is added to a row of a closed bucket, in a new revision. */
export interface LateRow {
  readonly bucket: BucketNumber;
  readonly series: number;
  /** Negative: taken back. */
  readonly amount: bigint;
}

/** How good the figures of a bucket are. */
export interface BucketQuality {
  readonly observedNanos: bigint;
  readonly expectedNanos: bigint;
  /** Energy integrated from power instead of counted, of all energy. */
  readonly estimatedMillijoules: bigint;
  readonly millijoules: bigint;
  readonly resets: number;
}

/** A bucket that gets its last row with this commit. */
export interface ClosedBucket {
  readonly bucket: BucketNumber;
  readonly revision: number;
  readonly quality: BucketQuality;
  /** Figures of the bucket that are no metric: engine minus gateway by model. */
  readonly figures: Readonly<Record<string, unknown>>;
}

/** What audit records are about (METERING.md 8). */
export const auditKinds = [
  "start",
  "close",
  "revision",
  "rollup",
  "retention",
  "reset",
  "rejected",
  "gap",
  "gpu",
  "unmetered",
  "clock_step",
  "config",
  "price",
  "correction",
  "conflict",
  "delivery",
  "loss",
  "restore",
  "quarantine",
  "gpus",
  "access",
  "policy",
  "quota_state",
  "rls",
] as const;
/** What an audit record is about. */
export type AuditKind = (typeof auditKinds)[number];

/** An entry of the audit record as it is chained: `body` is the text that was hashed. */
export interface ChainedAudit {
  readonly sequence: number;
  /** Unix nanoseconds. */
  readonly at: string;
  readonly kind: string;
  readonly body: string;
  readonly hash: string;
}

/** One entry of the hash-chained record. */
export interface AuditEntry {
  /** Unix nanoseconds, decimal. */
  readonly at: string;
  readonly kind: AuditKind;
  readonly body: Readonly<Record<string, unknown>>;
}

/** All of one export beat, stored in one transaction before anything of it is shown outside (METERING.md 1). */
export interface LedgerBatch {
  readonly sequence: number;
  /** End of the last interval in it, decimal unix nanoseconds. */
  readonly time: string;
  /** Series that are new, or whose start, end or role changed. */
  readonly series: readonly SeriesState[];
  /** Totals of sums of which nothing else changed since they were in `series`. */
  readonly totals?: AmountColumn;
  /** The same of histograms. */
  readonly histograms?: readonly (readonly [series: number, total: Histogram])[];
  /** Series that were forgotten; their rows stay. */
  readonly removed: readonly number[];
  readonly state: readonly StateRow[];
  /** Rows that are not in `amounts`. */
  readonly rows: readonly BucketRow[];
  readonly amounts?: readonly BucketColumn[];
  readonly closed: readonly ClosedBucket[];
  /** Usage of buckets that were closed before it arrived. */
  readonly late?: readonly LateRow[];
  /** Buckets from this one on are open again: the wall clock was stepped back. */
  readonly reopened?: BucketNumber;
  readonly audit: readonly AuditEntry[];
}

/** What a ledger continues from after a restart. */
export interface LedgerRestored {
  readonly sequence: number;
  readonly time: string;
  readonly nextSeries: number;
  readonly series: readonly SeriesState[];
  readonly state: readonly StateRow[];
  /** Rows of buckets that were still open. */
  readonly rows: readonly BucketRow[];
}
