// DCGM's fields under all the names they have had, for `dcgmi dmon` (short names) and dcgm-exporter (long names).
// Units come from the suffix or the unit row: DCGM 4.6 and exporter 4.9 renamed 23 metrics and changed 11 units.
// A `_RATIO` that was ever seen above 1 is a percentage: 4.6 kept 0-100 under the new name.
import type { GpuSample } from "../model.ts";

const MIB = 2 ** 20;
/** Values from here on are DCGM's blanks: not found, not supported, no permission. */
const BLANK_F64 = 140_737_488_355_328;
const BLANK_I32 = 0x7fff_fff0;

/** One reading: field id and short name for dmon, long names without their `DCGM_FI_DEV_` or `DCGM_FI_PROF_`. */
export interface DcgmField {
  readonly reading: keyof GpuSample | "memoryTotalBytes" | "memoryFreeBytes";
  readonly id: number;
  readonly short: string;
  /** Long name -> factor to our unit. `ratio` = 0-1, or percent once seen above 1. */
  readonly names: Readonly<Record<string, number | "ratio">>;
}

/** Fields read by both DCGM backends. */
export const DCGM_FIELDS: readonly DcgmField[] = [
  {
    reading: "powerWatts",
    id: 155,
    short: "POWER",
    names: { POWER_USAGE: 1, BOARD_POWER_WATTS: 1 },
  },
  {
    reading: "powerInstantWatts",
    id: 157,
    short: "POWINST",
    names: { POWER_USAGE_INSTANT: 1, BOARD_POWER_RAW_WATTS: 1 },
  },
  {
    reading: "energyMillijoules",
    id: 156,
    short: "TOTEC",
    names: { TOTAL_ENERGY_CONSUMPTION: 1, GPU_ENERGY_JOULES_TOTAL: 1000 },
  },
  {
    reading: "utilizationRatio",
    id: 203,
    short: "GPUTL",
    names: { GPU_UTIL: 0.01, GPU_UTIL_RATIO: "ratio" },
  },
  {
    reading: "memoryBusyRatio",
    id: 204,
    short: "MCUTL",
    names: { MEM_COPY_UTIL: 0.01, MEM_COPY_UTIL_RATIO: "ratio", MEMORY_COPY_UTIL_RATIO: "ratio" },
  },
  { reading: "memoryUsedBytes", id: 252, short: "FBUSD", names: { FB_USED: MIB, FB_USED_BYTES: 1 } },
  { reading: "memoryFreeBytes", id: 251, short: "FBFRE", names: { FB_FREE: MIB, FB_FREE_BYTES: 1 } },
  {
    reading: "memoryTotalBytes",
    id: 250,
    short: "FBTTL",
    names: { FB_TOTAL: MIB, FB_CAPACITY_BYTES: 1, FB_TOTAL_BYTES: 1 },
  },
  {
    reading: "powerLimitWatts",
    id: 164,
    short: "EPLMT",
    names: { ENFORCED_POWER_LIMIT: 1, BOARD_POWER_LIMIT_ENFORCED_WATTS: 1 },
  },
  {
    reading: "encoderRatio",
    id: 206,
    short: "ENCUT",
    names: { ENC_UTIL: 0.01, ENC_UTIL_RATIO: "ratio", ENCODER_UTIL_RATIO: "ratio" },
  },
  {
    reading: "decoderRatio",
    id: 207,
    short: "DECUT",
    names: { DEC_UTIL: 0.01, DEC_UTIL_RATIO: "ratio", DECODER_UTIL_RATIO: "ratio" },
  },
  { reading: "temperatureCelsius", id: 150, short: "TMPTR", names: { GPU_TEMP: 1, GPU_TEMP_CELSIUS: 1 } },
  {
    reading: "memoryTemperatureCelsius",
    id: 140,
    short: "MMTMP",
    names: { MEMORY_TEMP: 1, MEMORY_TEMP_CELSIUS: 1 },
  },
  { reading: "smClockHertz", id: 100, short: "SMCLK", names: { SM_CLOCK: 1e6, SM_CLOCK_HERTZ: 1 } },
  {
    reading: "memoryClockHertz",
    id: 101,
    short: "MMCLK",
    names: { MEM_CLOCK: 1e6, MEMORY_CLOCK_HERTZ: 1 },
  },
  {
    reading: "graphicsActiveRatio",
    id: 1001,
    short: "GRACT",
    names: { GR_ENGINE_ACTIVE: "ratio", GR_ENGINE_UTIL_RATIO: "ratio", GR_ENGINE_ACTIVE_RATIO: "ratio" },
  },
  {
    reading: "smActiveRatio",
    id: 1002,
    short: "SMACT",
    names: { SM_ACTIVE: "ratio", SM_UTIL_RATIO: "ratio", SM_ACTIVE_RATIO: "ratio" },
  },
  {
    reading: "tensorActiveRatio",
    id: 1004,
    short: "TENSO",
    names: { PIPE_TENSOR_ACTIVE: "ratio", TENSOR_UTIL_RATIO: "ratio", PIPE_TENSOR_ACTIVE_RATIO: "ratio" },
  },
  {
    reading: "dramActiveRatio",
    id: 1005,
    short: "DRAMA",
    names: { DRAM_ACTIVE: "ratio", DRAM_UTIL_RATIO: "ratio", DRAM_ACTIVE_RATIO: "ratio" },
  },
];

/**
 * Whether a value is one of DCGM's ways to say that it has none.
 * Exported for its test: every blank value of the library.
 */
export function isBlank(value: number): boolean {
  return !Number.isFinite(value) || value >= BLANK_F64 || (value >= BLANK_I32 && value <= 0x7fff_ffff);
}

/** Scales values of one page or table; remembers which ratios turned out to be percentages. */
export class DcgmScale {
  readonly #percent = new Set<string>();

  /** The value in our unit; undefined for a blank. */
  apply(name: string, value: number, factor: number | "ratio"): number | undefined {
    // The i32 blanks are legal as energy in mJ, whose own blank is an i64.
    if (factor === 1 ? value >= BLANK_F64 || !Number.isFinite(value) : isBlank(value)) return undefined;
    if (factor !== "ratio") return value * factor;
    // 1.2 can still be rounding of a ratio; no version prints 2 for 200 %.
    if (value > 1.5) this.#percent.add(name);
    return this.#percent.has(name) ? value / 100 : Math.min(value, 1);
  }
}

/** Puts readings of one GPU into a sample; what is not part of it (totals) is left to the inventory. */
export function dcgmSample(gpu: string, at: number, readings: ReadonlyMap<string, number>): GpuSample {
  const outside = new Set(["memoryTotalBytes", "memoryFreeBytes"]);
  const energy = readings.get("energyMillijoules");
  return {
    gpu,
    at,
    ...Object.fromEntries([...readings].filter(([reading]) => !outside.has(reading))),
    ...(energy === undefined ? {} : { energyMillijoules: Math.round(energy) }),
  };
}

/** The memory of the board: what DCGM says, else the sum of its parts. */
export function totalMemory(readings: ReadonlyMap<string, number>): number | undefined {
  const used = readings.get("memoryUsedBytes");
  const free = readings.get("memoryFreeBytes");
  return (
    readings.get("memoryTotalBytes") ?? (used === undefined || free === undefined ? undefined : used + free)
  );
}
