// GPU readings from a dcgm-exporter's page: for hosts where the agent has no access to the devices.
// Classic and 4.9 names (dcgm-readings.ts). On a shared GPU each pod repeats its series: the first one counts. The page
// holds the exporter's last collection (30 s by default), so a set of values seen before is no new reading.
// MIG instances are known by board and instance number only; processes, XID counts and events are not on the page. Under
// MIG the page repeats what the board has once (power, energy, temperature, clocks) on each instance and has no row for the
// board (dcgm-exporter#50, #257, #561): those values are read once and belong to the board.

import { z } from "zod";
import type { Gap, GpuInfo, GpuSample, Nanos } from "../model.ts";
import type { PageFetcher } from "../page/fetch.ts";
import { createPageFetcher } from "../page/fetch.ts";
import type { PageParser } from "../page/parse.ts";
import { createPageParser } from "../page/parse.ts";
import { addressText, parseWebAddress } from "../platform/address.ts";
import { NANOS_PER_MS } from "../platform/clock.ts";
import type { Detection, GpuBackend, GpuPoll, GpuSource, MetricPage, SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import { DCGM_FIELDS, DcgmScale, dcgmSample, totalMemory } from "./dcgm-readings.ts";
import { KnownBoards } from "./known-boards.ts";
import { profileName, sharesOf } from "./mig-weight.ts";
import { isSilent, sane } from "./sane.ts";

const GPUS_MAX = 256;
const INSTANCES_MAX = 64;
const PREFIX = /^DCGM_FI_(?:DEV_|PROF_)?/;

const config = z.strictObject({
  /** The exporter's page. */
  url: addressText(parseWebAddress).default("http://127.0.0.1:9400/metrics"),
  /** Shortest time between two scrapes; the exporter's own collect interval should be 1000 ms for good ratios. */
  intervalMs: z.int().min(500).max(600_000).default(1000),
  timeoutMs: z.int().min(100).max(60_000).default(2000),
  /** A page whose values stay the same for this long is stale. */
  staleMs: z.int().min(1000).max(3_600_000).default(90_000),
});

type DcgmExporterConfig = z.output<typeof config>;

/** Reads NVIDIA GPUs through a dcgm-exporter. */
export const dcgmExporterBackend: GpuBackend<typeof config> = {
  name: "dcgm-exporter",
  config,
  detect,
  open: async (options, context) => {
    const source = new DcgmExporterSource(options, context);
    await source.open();
    return source;
  },
};

async function detect(options: DcgmExporterConfig, context: SourceContext): Promise<Detection> {
  try {
    const source = new DcgmExporterSource(options, context);
    await source.open();
    const gpus = await source.inventory();
    await source.close();
    return { usable: true, reason: `${gpus.length} GPUs on ${options.url}` };
  } catch (error) {
    const { hint, message } = error as SourceError;
    return { usable: false, reason: message, ...(hint === undefined ? {} : { hint }) };
  }
}

/** What a page says of one GPU or MIG instance. */
interface Row {
  readonly info: GpuInfo;
  readonly readings: Map<string, number>;
}

/** Readings that an instance has of its own; all others are the board's. */
const OF_INSTANCE: ReadonlySet<string> = new Set([
  ...["memoryUsedBytes", "memoryFreeBytes", "memoryTotalBytes"],
  ...["graphicsActiveRatio", "smActiveRatio", "tensorActiveRatio", "dramActiveRatio"],
]);

/**
 * All GPUs of a page. Of several series with one name and GPU, which are its pods, the first counts.
 * Exported for its test: pages of every version.
 */
export function readPage(page: MetricPage, scale: DcgmScale): ReadonlyMap<string, Row> {
  const boards = new Map<string, Board>();
  for (const [name, samples] of page.samples) {
    const stem = name.replace(PREFIX, "");
    const field = DCGM_FIELDS.find(({ names }) => Object.hasOwn(names, stem));
    if (field === undefined || !PREFIX.test(name)) continue;
    for (const { labels, value } of samples) {
      const readings = readingsFor(boards, labels, field.reading);
      if (readings === undefined || readings.has(field.reading)) continue;
      const scaled = scale.apply(name, value, field.names[stem] ?? 1);
      if (scaled !== undefined) readings.set(field.reading, scaled);
    }
  }
  return new Map([...boards.values()].flatMap(rowsOf).map((row) => [row.info.uuid, row]));
}

interface Board extends Row {
  readonly instances: Map<string, Instance>;
}

interface Instance {
  readonly uuid: string;
  readonly index: number;
  readonly migProfile?: string;
  readonly readings: Map<string, number>;
}

/** Where a series' value belongs: to its instance, or to the board it names. */
function readingsFor(
  boards: Map<string, Board>,
  labels: Readonly<Record<string, string>>,
  reading: string,
): Map<string, number> | undefined {
  const info = boardOf(labels);
  if (info === undefined) return undefined;
  const board = boards.get(info.uuid) ?? { info, readings: new Map(), instances: new Map() };
  if (boards.size < GPUS_MAX) boards.set(info.uuid, board);
  const id = labels["GPU_I_ID"] ?? "";
  if (id === "") return board.readings;
  const known = board.instances.get(id);
  const migProfile = known?.migProfile ?? profileName(labels["GPU_I_PROFILE"]);
  const instance: Instance = {
    // The page does not know the instance's own UUID: this is how drivers before R470 spelled it.
    uuid: `MIG-${info.uuid}/${id}/0`,
    index: Number(id) || 0,
    ...(migProfile === undefined ? {} : { migProfile }),
    readings: known?.readings ?? new Map(),
  };
  if (board.instances.size < INSTANCES_MAX || known !== undefined) board.instances.set(id, instance);
  return OF_INSTANCE.has(reading) ? instance.readings : board.readings;
}

function boardOf(labels: Readonly<Record<string, string>>): GpuInfo | undefined {
  const uuid = labels["UUID"] ?? labels["uuid"];
  if (uuid === undefined || !/^(GPU|MIG)-/.test(uuid)) return undefined;
  const pci = labels["pci_bus_id"];
  const driver = labels["DCGM_FI_DRIVER_VERSION"] ?? labels["DCGM_FI_SYSTEM_DRIVER_VERSION"];
  return {
    uuid,
    index: Number(labels["gpu"] ?? 0) || 0,
    name: labels["modelName"] ?? "unknown",
    weight: 1,
    ...(pci === undefined ? {} : { pciBusId: pci }),
    ...(driver === undefined ? {} : { driverVersion: driver }),
  };
}

/** The board and its instances; the board alone where the share of an instance is not known. */
function rowsOf({ info, instances, readings }: Board): readonly Row[] {
  const parts = [...instances.values()];
  const shares = sharesOf(info, parts);
  if ("unknown" in shares) {
    const whole = { ...info, unsupported: { mig_weight: shares.unknown } };
    return [{ info: whole, readings: wholeReadings(readings, parts) }];
  }
  const { driverVersion, name } = info;
  const own = { info, readings };
  if (parts.length === 0) return [own];
  return [
    // A page without any value of the board itself does not make it a GPU that fails.
    ...(isSilent(dcgmSample(info.uuid, 0, readings)) ? [] : [own]),
    ...shares.instances.map(({ readings: its, ...instance }) => ({
      info: {
        ...instance,
        parent: info.uuid,
        name,
        ...(driverVersion === undefined ? {} : { driverVersion }),
      },
      readings: its,
    })),
  ];
}

/** Instances that cannot be weighed, seen as one GPU: it works when one of them does, and holds what all of them hold. */
function wholeReadings(board: ReadonlyMap<string, number>, parts: readonly Instance[]): Map<string, number> {
  const whole = new Map(board);
  for (const reading of OF_INSTANCE) {
    const values = parts.flatMap(({ readings }) => readings.get(reading) ?? []);
    if (values.length === 0 || whole.has(reading)) continue;
    const isMemory = reading.endsWith("Bytes");
    whole.set(reading, isMemory ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values));
  }
  return whole;
}

function boardUuid({ info }: Row): string {
  return info.parent ?? info.uuid;
}

/** Everything the page says of each board and its instances, as text to compare. */
function valuesByBoard(rows: ReadonlyMap<string, Row>): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const row of rows.values()) {
    const board = boardUuid(row);
    values.set(board, `${values.get(board) ?? ""} ${JSON.stringify([...row.readings])}`);
  }
  return values;
}

class DcgmExporterSource implements GpuSource {
  readonly backend = "dcgm-exporter";
  generation = 0;
  readonly #options: DcgmExporterConfig;
  readonly #context: SourceContext;
  readonly #fetcher: PageFetcher;
  readonly #parser: PageParser = createPageParser();
  readonly #scale = new DcgmScale();
  readonly #seen = new Map<string, { readonly values: string; readonly at: Nanos }>();
  readonly #counts = { pages: 0, repeats: 0, absurd: 0 };
  readonly #known = new KnownBoards();
  /** GPUs whose row on the last page held no reading. */
  readonly #silent = new Set<string>();
  #due: Nanos = -Infinity;
  #since: Nanos = 0;

  constructor(options: DcgmExporterConfig, context: SourceContext) {
    this.#options = options;
    this.#context = context;
    this.#fetcher = createPageFetcher({ url: options.url, timeoutMs: options.timeoutMs }, context);
  }

  async open(): Promise<void> {
    this.#since = this.#context.clock.now();
    this.#take(await this.#page());
  }

  async inventory(): Promise<readonly GpuInfo[]> {
    return this.#known.infos;
  }

  async poll(): Promise<GpuPoll> {
    const { clock } = this.#context;
    const sent = clock.now();
    if (sent < this.#due) return { sent, received: sent, samples: [], gaps: this.#gaps(sent) };
    this.#due = sent + this.#options.intervalMs * NANOS_PER_MS;
    const rows = await this.#page();
    this.#take(rows);
    const received = clock.now();
    const values = valuesByBoard(rows);
    const samples = [...rows.values()].flatMap(
      (row) => this.#sample(row, values.get(boardUuid(row)) ?? "", received) ?? [],
    );
    return { sent, received, samples, gaps: this.#gaps(received) };
  }

  async close(): Promise<void> {
    this.#fetcher.close();
  }

  status(): Readonly<Record<string, unknown>> {
    return { url: this.#options.url, generation: this.generation, ...this.#counts };
  }

  async #page(): Promise<ReadonlyMap<string, Row>> {
    const rows = await this.#fetcher.fetch(
      ({ body }) => readPage(this.#parser.parse(body), this.#scale),
      this.#context.signal,
    );
    this.#counts.pages++;
    if (rows.size > 0) return rows;
    throw new SourceError("transient", `Cannot read GPUs from ${this.#options.url}: it names no GPU`, {
      hint: "wanted DCGM_FI_DEV_* series with a UUID label, as dcgm-exporter prints them",
    });
  }

  /**
   * A reading when anything on its board changed since the last one: the page repeats itself between collections, and an
   * idle instance has nothing of its own that changes.
   */
  #sample(row: Row, values: string, at: Nanos): GpuSample | undefined {
    const { uuid } = row.info;
    const sample = dcgmSample(uuid, at, row.readings);
    if (isSilent(sample)) {
      this.#silent.add(uuid);
      return undefined;
    }
    this.#silent.delete(uuid);
    if (this.#seen.get(uuid)?.values === values) {
      this.#counts.repeats++;
      return undefined;
    }
    this.#seen.set(uuid, { values, at });
    const checked = sane(sample, at);
    this.#counts.absurd += checked?.dropped ?? 1;
    return checked?.sample;
  }

  #gaps(now: Nanos): readonly Gap[] {
    const oldest = now - this.#options.staleMs * NANOS_PER_MS;
    return this.#known.gaps(now, ({ index, parent, uuid }) => {
      const what = parent === undefined ? `GPU ${index}` : `instance ${index}`;
      if (this.#silent.has(uuid))
        return `${what}: the page holds blanks in place of its readings: it is lost or needs a reset`;
      if (this.#known.left.has(uuid)) return `${what}: the page does not name it any more`;
      if ((this.#seen.get(uuid)?.at ?? this.#since) >= oldest) return undefined;
      return `${what}: the page repeats the same values for over ${this.#options.staleMs / 1000} s`;
    });
  }

  #take(rows: ReadonlyMap<string, Row>): void {
    const infos = [...rows.values()].map(({ info, readings }) => {
      const memoryTotalBytes = totalMemory(readings);
      const powerLimitWatts = readings.get("powerLimitWatts");
      return {
        ...info,
        ...(memoryTotalBytes === undefined ? {} : { memoryTotalBytes }),
        ...(powerLimitWatts === undefined ? {} : { powerLimitWatts }),
      };
    });
    if (this.#known.take(infos)) this.generation++;
  }
}
