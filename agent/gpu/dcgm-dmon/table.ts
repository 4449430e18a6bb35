// The text of `dcgmi dmon` (DCGM 2.x to 4.x) and of `dcgmi discovery -l`.
// The header comes again every 14 rounds. Columns are padded to 13-28 characters and a field that is not returned for
// an entity prints spaces, so rows are cut at the header's offsets, never split. `N/A` is a blank.
import type { GpuInfo } from "../../model.ts";
import { DCGM_FIELDS, DcgmScale } from "../dcgm-readings.ts";
import { unreadGpu } from "../known-boards.ts";

/** Unit row -> factor to our unit; what is not listed is a plain number, ratios are 0-1. */
const UNITS: Readonly<Record<string, number>> = {
  W: 1,
  mJ: 1,
  J: 1000,
  "%": 0.01,
  MB: 2 ** 20,
  MiB: 2 ** 20,
  B: 1,
  MHz: 1e6,
  Hz: 1,
  C: 1,
};
/** Units of DCGM's own where the unit row is empty. */
const DEFAULT_UNIT: Readonly<Record<string, number | "ratio">> = {
  powerWatts: 1,
  powerInstantWatts: 1,
  energyMillijoules: 1,
  utilizationRatio: 0.01,
  encoderRatio: 0.01,
  decoderRatio: 0.01,
  memoryBusyRatio: 0.01,
  memoryUsedBytes: 2 ** 20,
  temperatureCelsius: 1,
  memoryTemperatureCelsius: 1,
  smClockHertz: 1e6,
  memoryClockHertz: 1e6,
};

interface Column {
  readonly start: number;
  readonly short: string;
  readonly reading: string | undefined;
  factor: number | "ratio";
}

/** A row of a GPU: its index and its readings. */
export interface DmonRow {
  readonly index: number;
  readonly readings: ReadonlyMap<string, number>;
}

/** Reads dmon's lines one after another; the header shows where columns begin. */
export class DmonTable {
  #columns: readonly Column[] = [];
  #unitsNext = false;
  readonly #scale = new DcgmScale();

  /** The row of a GPU; undefined for headers, other entities and anything else. */
  readLine(line: string): DmonRow | undefined {
    if (line.startsWith("#")) {
      this.#columns = columnsOf(line);
      this.#unitsNext = true;
      return undefined;
    }
    if (this.#unitsNext && /^\s*I[dD]\b/.test(line)) {
      this.#unitsNext = false;
      this.#takeUnits(line);
      return undefined;
    }
    const index = /^GPU (\d+)\s*$/.exec(line.slice(0, this.#columns[0]?.start ?? 0))?.[1];
    if (index === undefined) return undefined;
    const readings = new Map<string, number>();
    this.#columns.forEach((column, place) => {
      const cell = line.slice(column.start, this.#columns[place + 1]?.start).trim();
      const value = cell === "" ? Number.NaN : Number(cell);
      const scaled = this.#scale.apply(column.short, value, column.factor);
      if (column.reading !== undefined && scaled !== undefined) readings.set(column.reading, scaled);
    });
    return { index: Number(index), readings };
  }

  #takeUnits(line: string): void {
    this.#columns.forEach((column, place) => {
      const unit = line.slice(column.start, this.#columns[place + 1]?.start).trim();
      const factor = UNITS[unit];
      if (factor !== undefined) column.factor = factor;
    });
  }
}

function columnsOf(header: string): readonly Column[] {
  return [...header.matchAll(/\S+/g)].flatMap((match) => {
    const short = match[0];
    // `#Entity`, in DCGM 2 `# Entity`, names the rows.
    if (short.startsWith("#") || short === "Entity") return [];
    const reading = DCGM_FIELDS.find(
      (field) => field.short === short || field.short.startsWith(short),
    )?.reading;
    return [
      { start: match.index, short, reading, factor: DEFAULT_UNIT[reading ?? ""] ?? ("ratio" as const) },
    ];
  });
}

/** GPUs of `dcgmi discovery -l`: a table whose rows hold id, name, bus id and UUID. */
export function parseDiscovery(text: string): readonly GpuInfo[] {
  const gpus: GpuInfo[] = [];
  let current: { index: number; name?: string; pciBusId?: string } | undefined;
  for (const line of text.split("\n")) {
    const [id = "", what = ""] = line
      .split("|")
      .slice(1, 3)
      .map((cell) => cell.trim());
    if (/^\d+$/.test(id)) current = { index: Number(id) };
    if (current === undefined) continue;
    const [, key, value] = /^([^:]+):\s*(.+)$/.exec(what) ?? [];
    if (key === "Name" && value !== undefined) current.name = value;
    if (key === "PCI Bus ID" && value !== undefined) current.pciBusId = value;
    if (key === "Device UUID" && value?.startsWith("GPU-")) {
      const { name = "unknown", ...rest } = current;
      gpus.push({ uuid: value, weight: 1, name, ...rest });
      current = undefined;
    }
  }
  return [...gpus, ...unnamed(text, gpus)];
}

/** GPUs that the table counts but does not name. */
function unnamed(text: string, gpus: readonly GpuInfo[]): readonly GpuInfo[] {
  const count = Math.min(GPUS_MAX, Number(/^(\d+) GPUs? found/m.exec(text)?.[1] ?? 0));
  const indexes = Array.from({ length: count }, (_, index) => index);
  return indexes
    .filter((index) => !gpus.some((gpu) => gpu.index === index))
    .map((index) => unreadGpu(index, `GPU ${index}: dcgmi counts it and does not name it`));
}

const GPUS_MAX = 256;
