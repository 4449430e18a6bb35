// What one GPU earns in a year of 8,760 hours, sold by the hour and sold by the token (METERING.md 6).
// Integers of 1e-9 of their unit all the way; division comes last.
import { NANO } from "../common/numbers.ts";

const HOURS_PER_YEAR = 8760n;
const MILLION = 1_000_000n;

/** Inputs in 1e-9 of their unit. */
export interface EconomicsInputs {
  /** Currency per GPU-hour. */
  readonly gpuHourPrice: bigint;
  /** Share of hours sold. */
  readonly utilization: bigint;
  /** Tokens per hour at full load. */
  readonly capacityTokensPerHour: bigint;
  /** Currency per million tokens. */
  readonly pricePerMillion: bigint;
  /** Share of the capacity that is billed. */
  readonly tokenActive: bigint;
}

/** Results in 1e-9 of their unit; `undefined` where the denominator is empty. */
export interface Economics {
  readonly gpuHourPerYear: bigint;
  readonly tokenPerYear: bigint;
  readonly tokensPerGpuHour: bigint;
  readonly tokenPerGpuHour: bigint;
  readonly tokenOverGpuHour: bigint | undefined;
  readonly costPerMillion: bigint | undefined;
  readonly breakEvenTokenActive: bigint | undefined;
}

/** Both ways of selling one GPU for a year of 8,760 hours. Fractions of 1e-9 are cut off at the end, never before. */
export function computeEconomics(inputs: EconomicsInputs): Economics {
  const { gpuHourPrice, utilization, capacityTokensPerHour, pricePerMillion, tokenActive } = inputs;
  // Each product of k inputs is in 1e-9^k of its unit.
  const gpuHour = gpuHourPrice * utilization;
  const tokens = capacityTokensPerHour * tokenActive;
  const token = tokens * pricePerMillion;
  const capacity = capacityTokensPerHour * pricePerMillion;
  return {
    gpuHourPerYear: (gpuHour * HOURS_PER_YEAR) / NANO,
    tokenPerYear: (token * HOURS_PER_YEAR) / (MILLION * NANO * NANO),
    tokensPerGpuHour: tokens / NANO,
    tokenPerGpuHour: token / (MILLION * NANO * NANO),
    tokenOverGpuHour: divide(token, gpuHour * MILLION),
    costPerMillion: divide(gpuHourPrice * MILLION * NANO * NANO, tokens),
    breakEvenTokenActive: divide(gpuHour * MILLION * NANO, capacity),
  };
}

function divide(numerator: bigint, denominator: bigint): bigint | undefined {
  return denominator === 0n ? undefined : numerator / denominator;
}
