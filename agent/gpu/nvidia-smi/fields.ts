// What we ask of `--query-gpu`, each reading with the names it has had across drivers, newest first.
// The tool aborts on one unknown field, so names are chosen from `--help-query-gpu` (driver 580 lists 218). Its output
// header echoes other names than were asked, so cells are mapped by position.
import type { GpuInfo, GpuSample } from "../../model.ts";
import { unreadGpu } from "../known-boards.ts";
import { parseText, parseValue, quoted } from "./values.ts";

const MIB = 2 ** 20;
const MICROS_PER_SECOND = 1e6;

/** A number wanted of every line. */
interface Wanted {
  readonly reading: string;
  readonly names: readonly string[];
  readonly scale: number;
}

const THROTTLE = "throttle_";
/** Field suffix -> reason, the same as the nvml backend exports. */
const THROTTLES = {
  sw_power_cap: "power_cap",
  sync_boost: "sync_boost",
  sw_thermal_slowdown: "software_thermal",
  hw_thermal_slowdown: "hardware_thermal",
  hw_power_brake_slowdown: "power_brake",
} as const;

const NUMBERS: readonly Wanted[] = [
  { reading: "utilizationRatio", names: ["utilization.gpu"], scale: 0.01 },
  { reading: "memoryBusyRatio", names: ["utilization.memory"], scale: 0.01 },
  { reading: "memoryUsedBytes", names: ["memory.used"], scale: MIB },
  { reading: "powerAverage", names: ["power.draw.average"], scale: 1 },
  { reading: "powerInstant", names: ["power.draw.instant"], scale: 1 },
  { reading: "power", names: ["power.draw"], scale: 1 },
  { reading: "temperatureCelsius", names: ["temperature.gpu"], scale: 1 },
  { reading: "memoryTemperatureCelsius", names: ["temperature.memory"], scale: 1 },
  { reading: "smClockHertz", names: ["clocks.sm", "clocks.current.sm"], scale: 1e6 },
  { reading: "memoryClockHertz", names: ["clocks.mem", "clocks.current.memory"], scale: 1e6 },
  { reading: "eccUncorrected", names: ["ecc.errors.uncorrected.aggregate.total"], scale: 1 },
  { reading: "eccCorrected", names: ["ecc.errors.corrected.aggregate.total"], scale: 1 },
  ...Object.entries(THROTTLES).map(([name, reason]) => ({
    reading: `${THROTTLE}${reason}`,
    names: [`clocks_event_reasons_counters.${name}`, `clocks_throttle_reasons_counters.${name}`],
    scale: 1 / MICROS_PER_SECOND,
  })),
  { reading: "powerLimitWatts", names: ["enforced.power.limit"], scale: 1 },
  { reading: "encoderRatio", names: ["utilization.encoder"], scale: 0.01 },
  { reading: "decoderRatio", names: ["utilization.decoder"], scale: 0.01 },
];

/** Names chosen for one driver, in the order they are asked. The first is always the UUID. */
export interface Query {
  readonly fields: readonly string[];
  readonly numbers: readonly { readonly reading: string; readonly scale: number }[];
  /** Fields this driver does not have, by their newest name. */
  readonly missing: readonly string[];
}

/** Chooses a name for every reading from the fields the driver lists. */
export function chooseQuery(listed: ReadonlySet<string>): Query {
  const chosen = NUMBERS.map((wanted) => ({
    ...wanted,
    name: wanted.names.find((name) => listed.has(name)),
  }));
  const known = chosen.filter(
    (wanted): wanted is typeof wanted & { name: string } => wanted.name !== undefined,
  );
  return {
    fields: ["uuid", ...known.map(({ name }) => name)],
    numbers: known.map(({ reading, scale }) => ({ reading, scale })),
    missing: chosen.flatMap(({ name, names }) => (name === undefined ? names.slice(0, 1) : [])),
  };
}

/** The same query without a field the tool refused. */
export function withoutField(query: Query, field: string): Query {
  const index = query.fields.indexOf(field);
  if (index < 1) return query;
  return {
    fields: query.fields.toSpliced(index, 1),
    numbers: query.numbers.toSpliced(index - 1, 1),
    missing: [...query.missing, field],
  };
}

/** The names `--help-query-gpu` lists: quoted at the start of a line, alternatives joined by "or". */
export function listedFields(help: string): ReadonlySet<string> {
  const fields = new Set<string>();
  for (const line of help.split("\n")) {
    if (!line.startsWith('"')) continue;
    for (const match of line.matchAll(/"([A-Za-z0-9_.]+)"/g))
      if (match[1] !== undefined) fields.add(match[1]);
  }
  return fields;
}

/** One line of the resident query as a reading, and why numbers are missing from it; undefined when it is no data. */
export function parseLine(
  query: Query,
  line: string,
  at: number,
): { readonly sample: GpuSample; readonly absent: Readonly<Record<string, string>> } | undefined {
  const cells = line.split(",").map((cell) => cell.trim());
  const uuid = cells[0];
  if (cells.length !== query.fields.length || uuid === undefined || !/^(GPU|MIG)-/.test(uuid))
    return undefined;
  const values = new Map<string, number>();
  const absent: Record<string, string> = {};
  query.numbers.forEach(({ reading, scale }, index) => {
    const parsed = parseValue(cells[index + 1] ?? "");
    if ("value" in parsed) values.set(reading, parsed.value * scale);
    else absent[reading] = parsed.absent;
  });
  return { sample: assemble(uuid, at, values), absent };
}

const PLAIN = [
  "utilizationRatio",
  "memoryBusyRatio",
  "memoryUsedBytes",
  "temperatureCelsius",
  "memoryTemperatureCelsius",
  "smClockHertz",
  "memoryClockHertz",
  "powerLimitWatts",
  "encoderRatio",
  "decoderRatio",
] as const;

function assemble(gpu: string, at: number, values: ReadonlyMap<string, number>): GpuSample {
  const average = values.get("powerAverage");
  // Without an average field `power.draw` is instantaneous on GA100 and older parts, so it is taken as such.
  const instant = values.get("powerInstant") ?? (average === undefined ? values.get("power") : undefined);
  const throttle = [...values].flatMap(([reading, value]) =>
    reading.startsWith(THROTTLE) ? [[reading.slice(THROTTLE.length), value] as const] : [],
  );
  const corrected = values.get("eccCorrected");
  const uncorrected = values.get("eccUncorrected");
  return {
    gpu,
    at,
    ...Object.fromEntries(PLAIN.flatMap((key) => (values.has(key) ? [[key, values.get(key)]] : []))),
    ...(average === undefined ? {} : { powerWatts: average }),
    ...(instant === undefined ? {} : { powerInstantWatts: instant }),
    ...(throttle.length === 0 ? {} : { throttleSeconds: Object.fromEntries(throttle) }),
    ...(corrected === undefined && uncorrected === undefined
      ? {}
      : {
          eccErrors: {
            ...(corrected === undefined ? {} : { corrected }),
            ...(uncorrected === undefined ? {} : { uncorrected }),
          },
        }),
  };
}

// ---------------------------------------------------------------------------------------------- inventory

/** Asked once; all of these are as old as the tool itself, the last is dropped by its refusal where it is not. */
export const INVENTORY_FIELDS = [
  "uuid",
  "index",
  "pci.bus_id",
  "driver_version",
  "memory.total",
  "enforced.power.limit",
  "mig.mode.current",
  "name",
] as const;

/** One GPU of the inventory query, its index where it does not say who it is; undefined when the line is no data. */
export function parseInventoryLine(fields: readonly string[], line: string): GpuInfo | undefined {
  const cells = line.split(",");
  // The product name is asked last and takes the rest: it may hold a comma.
  const values = [...cells.slice(0, fields.length - 1), cells.slice(fields.length - 1).join(",")];
  const cell = (name: string): string => values[fields.indexOf(name)]?.trim() ?? "";
  const number = (name: string, scale: number): number | undefined => {
    const parsed = parseValue(cell(name));
    return "value" in parsed && parsed.value >= 0 ? parsed.value * scale : undefined;
  };
  if (cells.length < fields.length) return undefined;
  const uuid = parseText(cell("uuid"));
  if (uuid?.startsWith("GPU-") !== true) {
    const index = number("index", 1);
    if (index === undefined || !Number.isInteger(index)) return undefined;
    return unreadGpu(index, `GPU ${index}: nvidia-smi says ${quoted(cell("uuid"))} in place of its UUID`);
  }
  const pciBusId = parseText(cell("pci.bus_id"));
  const driverVersion = parseText(cell("driver_version"));
  const memoryTotalBytes = number("memory.total", MIB);
  const powerLimitWatts = number("enforced.power.limit", 1);
  return {
    uuid,
    index: number("index", 1) ?? 0,
    name: parseText(cell("name")) ?? "unknown",
    weight: 1,
    ...(pciBusId === undefined ? {} : { pciBusId }),
    ...(driverVersion === undefined ? {} : { driverVersion }),
    ...(memoryTotalBytes === undefined ? {} : { memoryTotalBytes }),
    ...(powerLimitWatts === undefined ? {} : { powerLimitWatts }),
  };
}
