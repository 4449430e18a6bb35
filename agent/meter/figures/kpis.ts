// The key figures of METERING.md 6: every one a ratio of sums over one window and group, never a mean of ratios.
// An empty denominator gives undefined, never 0 or infinity. Tokens are those of the engine family.
// Money goes in as integers of 1e-9 of the currency and comes out in the currency.
import type { AllocatedState, GpuState, Phase } from "../../model.ts";

/** Sums over a window and group. What is absent is not known, and so are the figures made of it. */
export interface KpiTotals {
  /** GPU nanoseconds by state. */
  readonly gpuNanos: Readonly<Record<GpuState, Quantity>>;
  /** GPU-board millijoules by state. */
  readonly gpuMillijoules: Readonly<Record<GpuState, Quantity>>;
  /** All input kinds. */
  readonly inputTokens?: Quantity | undefined;
  readonly outputTokens?: Quantity | undefined;
  /** The part of the input that came from a cache. */
  readonly cachedInputTokens?: Quantity | undefined;
  /** Tokens that meet no observed GPU time, of either side; they count for the bill but not for efficiency. */
  readonly unmatchedInputTokens?: Quantity;
  readonly unmatchedOutputTokens?: Quantity;
  readonly unmatchedCachedTokens?: Quantity;
  readonly busyNanos?: Quantity;
  readonly capacityTokens?: Quantity;
  /** How much more or less the capacity may be. */
  readonly uncertainCapacityTokens?: Quantity;
  /** Tokens made while the capacity was known; absent = all of them. */
  readonly ratedTokens?: Quantity;
  /** Cost by state, 1e-9 of the currency. */
  readonly cost?: Readonly<Partial<Record<CostState, Quantity>>>;
  /** 1e-9 of the currency. */
  readonly revenue?: Quantity;
  /** Allocated time of which nothing says whether it was token-active: no utilisation is made of it. */
  readonly unknownNanos?: Quantity;
  /** Token-active time and energy of engines by what it was spent on, and what of it may be the other phase. */
  readonly phases?: Readonly<Record<Phase, { readonly nanos: Quantity; readonly millijoules: Quantity }>> & {
    readonly uncertainMillijoules: Quantity;
  };
  /** Time and energy of the GPUs that rest on an assumption (METERING.md 1.5). */
  readonly uncertainNanos?: Quantity;
  readonly uncertainMillijoules?: Quantity;
  readonly gatewayTokens?: { readonly ok: Quantity; readonly all: Quantity };
}

/** A sum; bigint where it comes from the ledger. */
export type Quantity = number | bigint;

/** States cost is booked under; energy that belongs to no state is `unattributed`, and belongs to the fleet. */
export type CostState = GpuState | "unattributed";

/** Which seconds carry the cost: all of them, those a server held, or only those that produced tokens. */
export type CostBasis = "fleet" | "allocation" | "active";

/** The key figures. Undefined = an empty denominator, or something not known. */
export interface Kpis {
  /** Headline: all kinds per allocated GPU-hour. */
  readonly tokensPerGpuHour: number | undefined;
  readonly uncachedTokensPerGpuHour: number | undefined;
  readonly outputTokensPerGpuHour: number | undefined;
  readonly tokensPerFleetGpuHour: number | undefined;
  readonly tokensPerTokenActiveGpuHour: number | undefined;
  readonly tokensPerBusyGpuHour: number | undefined;
  /** Time: token-active seconds per allocated second of which it is known. */
  readonly tokenActiveUtilization: number | undefined;
  /** Capacity: tokens per capacity token. */
  readonly capacityUtilization: number | undefined;
  /** Between which bounds it lies in 9 of 10 cases, where a capacity is learned. */
  readonly capacityUtilizationMin: number | undefined;
  readonly capacityUtilizationMax: number | undefined;
  /** Capacity utilisation per time utilisation. */
  readonly intensity: number | undefined;
  /** At the GPU boards, allocated states; the same number as tokens per second per watt. */
  readonly tokensPerJoule: number | undefined;
  readonly outputTokensPerJoule: number | undefined;
  readonly fleetTokensPerJoule: number | undefined;
  readonly joulesPerToken: number | undefined;
  readonly kilowattHoursPerMillionTokens: number | undefined;
  readonly costPerMillionTokens: Readonly<Record<CostBasis, number | undefined>>;
  readonly tokensPerCurrency: Readonly<Record<CostBasis, number | undefined>>;
  readonly revenuePerGpuHour: number | undefined;
  readonly marginPerGpuHour: number | undefined;
  readonly grossMargin: number | undefined;
  /** Share of prefill in the token-active seconds whose phase is known. */
  readonly prefillTimeShare: number | undefined;
  /** Token-active energy of prefill per input token, and of decode per output token; prompts from a cache count too. */
  readonly joulesPerInputToken: number | undefined;
  readonly joulesPerOutputToken: number | undefined;
  /**
   * How far off the energy of prefill, and of decode, may be, as a share of it: one standard error of the split, what is unsplit,
   * and its part of what may not have been the server's at all.
   */
  readonly prefillUncertainShare: number | undefined;
  readonly decodeUncertainShare: number | undefined;
  /** Gateway tokens with another outcome than ok, per token. */
  readonly errorShare: number | undefined;
  /** Share of the GPU time that was observed: shown beside everything else. */
  readonly coverage: number | undefined;
  /** Share of the observed time, and of the energy, that rests on an assumption; of a server of what it held. */
  readonly uncertainTimeShare: number | undefined;
  readonly uncertainEnergyShare: number | undefined;
  /** Share of the observed energy spent while nothing was asked for: free and parked. */
  readonly idleEnergyShare: number | undefined;
}

const allocated: readonly AllocatedState[] = ["parked", "stalled", "token_active"];
const observed: readonly GpuState[] = [...allocated, "free", "other"];
const every: readonly GpuState[] = [...observed, "unobserved"];
const wholeCost: readonly CostState[] = [...every, "unattributed"];
/** Unsplit energy beyond this leaves too little to speak for the rest. */
const unsplitShareMax = 0.1;
const nanosPerHour = 3.6e12;
const billionth = 1e9;

/** The key figures of these totals. */
export function kpis(totals: KpiTotals): Kpis {
  const input = less(totals.inputTokens, totals.unmatchedInputTokens);
  const output = less(totals.outputTokens, totals.unmatchedOutputTokens);
  const cached = less(totals.cachedInputTokens, totals.unmatchedCachedTokens);
  const tokens = input === undefined || output === undefined ? undefined : input + output;
  const allocatedNanos = sum(totals.gpuNanos, allocated);
  const allocatedHours = allocatedNanos / nanosPerHour;
  const activeNanos = Number(totals.gpuNanos.token_active);
  const joules = sum(totals.gpuMillijoules, allocated) / 1e3;
  const observedJoules = sum(totals.gpuMillijoules, observed) / 1e3;
  const tokensPerJoule = ratio(tokens, joules);
  const time = ratio(activeNanos, allocatedNanos - Number(totals.unknownNanos ?? 0));
  const rated = number(totals.ratedTokens) ?? tokens;
  const capacityTokens = number(totals.capacityTokens);
  const doubt = number(totals.uncertainCapacityTokens) ?? 0;
  const capacity = ratio(rated, capacityTokens);
  return {
    tokensPerGpuHour: ratio(tokens, allocatedHours),
    uncachedTokensPerGpuHour:
      cached === undefined || tokens === undefined ? undefined : ratio(tokens - cached, allocatedHours),
    outputTokensPerGpuHour: ratio(output, allocatedHours),
    tokensPerFleetGpuHour: ratio(tokens, sum(totals.gpuNanos, observed) / nanosPerHour),
    tokensPerTokenActiveGpuHour: ratio(tokens, activeNanos / nanosPerHour),
    tokensPerBusyGpuHour: ratio(tokens, over(number(totals.busyNanos), nanosPerHour)),
    tokenActiveUtilization: time,
    capacityUtilization: capacity,
    capacityUtilizationMin: ratio(rated, capacityTokens === undefined ? undefined : capacityTokens + doubt),
    capacityUtilizationMax: ratio(rated, capacityTokens === undefined ? undefined : capacityTokens - doubt),
    intensity: ratio(capacity, time),
    tokensPerJoule,
    outputTokensPerJoule: ratio(output, joules),
    fleetTokensPerJoule: ratio(tokens, observedJoules),
    joulesPerToken: ratio(1, tokensPerJoule),
    // 1 J per token is 1e6 J, or 1/3.6 kWh, per million tokens.
    kilowattHoursPerMillionTokens: over(ratio(1, tokensPerJoule), 3.6),
    ...money(totals, tokens, allocatedHours),
    ...phaseFigures(totals, input, output),
    errorShare: errorShare(totals.gatewayTokens),
    coverage: ratio(sum(totals.gpuNanos, observed), sum(totals.gpuNanos, every)),
    uncertainTimeShare: share(number(totals.uncertainNanos), sum(totals.gpuNanos, observed)),
    uncertainEnergyShare: share(over(number(totals.uncertainMillijoules), 1e3), observedJoules),
    idleEnergyShare: ratio(sum(totals.gpuMillijoules, ["free", "parked"]) / 1e3, observedJoules),
  };
}

type PhaseFigures =
  | ("prefillTimeShare" | "joulesPerInputToken" | "joulesPerOutputToken")
  | ("prefillUncertainShare" | "decodeUncertainShare");

/** What prompts and answers cost apart. Where more than a tenth is unsplit, nothing is said per token. */
function phaseFigures(
  { phases, uncertainMillijoules }: Pick<KpiTotals, "phases" | "uncertainMillijoules">,
  input: number | undefined,
  output: number | undefined,
): Pick<Kpis, PhaseFigures> {
  const joulesOf = (phase: Phase): number => Number(phases?.[phase].millijoules ?? 0) / 1e3;
  const [prefill, decode, unsplit] = [joulesOf("prefill"), joulesOf("decode"), joulesOf("unsplit")];
  const all = prefill + decode + unsplit;
  const isKnown = unsplit <= unsplitShareMax * all;
  const [prefillNanos, decodeNanos] = [phases?.prefill.nanos, phases?.decode.nanos].map(Number);
  const split = Number(phases?.uncertainMillijoules ?? 0) / 1e3 + unsplit;
  const others = Number(uncertainMillijoules ?? 0) / 1e3;
  const doubt = (joules: number): number | undefined =>
    isKnown ? ratio(split + others * (joules / all), joules) : undefined;
  return {
    prefillTimeShare: isKnown ? ratio(prefillNanos, (prefillNanos ?? 0) + (decodeNanos ?? 0)) : undefined,
    joulesPerInputToken: isKnown && prefill > 0 ? ratio(prefill, input) : undefined,
    joulesPerOutputToken: isKnown && decode > 0 ? ratio(decode, output) : undefined,
    prefillUncertainShare: doubt(prefill),
    decodeUncertainShare: doubt(decode),
  };
}

/** The cost of a million tokens and the like: of tokens that met observed GPU time, for only that is in the cost. */
function money(
  totals: KpiTotals,
  tokens: number | undefined,
  allocatedHours: number,
): Pick<
  Kpis,
  "costPerMillionTokens" | "tokensPerCurrency" | "revenuePerGpuHour" | "marginPerGpuHour" | "grossMargin"
> {
  const cost = (basis: CostBasis): number | undefined => costOn(basis, totals.cost);
  const perMillion = (basis: CostBasis): number | undefined => ratio(scaled(cost(basis), 1e6), tokens);
  const perCurrency = (basis: CostBasis): number | undefined => ratio(tokens, cost(basis));
  const revenue = over(number(totals.revenue), billionth);
  const spent = cost("allocation");
  const margin = revenue === undefined || spent === undefined ? undefined : revenue - spent;
  return {
    costPerMillionTokens: {
      fleet: perMillion("fleet"),
      allocation: perMillion("allocation"),
      active: perMillion("active"),
    },
    tokensPerCurrency: {
      fleet: perCurrency("fleet"),
      allocation: perCurrency("allocation"),
      active: perCurrency("active"),
    },
    revenuePerGpuHour: ratio(revenue, allocatedHours),
    marginPerGpuHour: ratio(margin, allocatedHours),
    grossMargin: ratio(margin, revenue),
  };
}

/** Cost on one basis, in the currency; undefined while no GPU-second had a known price. */
function costOn(basis: CostBasis, cost: KpiTotals["cost"]): number | undefined {
  if (cost === undefined) return undefined;
  const states: readonly CostState[] =
    basis === "fleet" ? wholeCost : basis === "allocation" ? allocated : ["token_active"];
  // Nothing booked in these states says nothing of their price.
  if (!states.some((state) => cost[state] !== undefined)) return undefined;
  return sum(cost, states) / billionth;
}

function errorShare(gateway: KpiTotals["gatewayTokens"]): number | undefined {
  return gateway === undefined
    ? undefined
    : ratio(Number(gateway.all) - Number(gateway.ok), Number(gateway.all));
}

function sum<State extends string>(
  parts: Readonly<Partial<Record<State, Quantity>>>,
  states: readonly State[],
): number {
  return states.reduce((total, state) => total + Number(parts[state] ?? 0), 0);
}

function ratio(numerator: number | undefined, denominator: number | undefined): number | undefined {
  if (numerator === undefined || denominator === undefined || !(denominator > 0)) return undefined;
  return numerator / denominator;
}

/** A ratio that is no more than all: of a server that shares a GPU all of the GPU's time may be in doubt. */
function share(part: number | undefined, whole: number): number | undefined {
  const value = ratio(part, whole);
  return value === undefined ? undefined : Math.min(1, value);
}

function over(value: number | undefined, divisor: number): number | undefined {
  return value === undefined ? undefined : value / divisor;
}

function scaled(value: number | undefined, factor: number): number | undefined {
  return value === undefined ? undefined : value * factor;
}

function less(value: Quantity | undefined, part: Quantity | undefined): number | undefined {
  return value === undefined ? undefined : Number(value) - Number(part ?? 0);
}

function number(value: Quantity | undefined): number | undefined {
  return value === undefined ? undefined : Number(value);
}
