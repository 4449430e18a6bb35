// GPU readings from a dcgm-exporter's page: for hosts where the agent has no access to the devices.
// Classic and 4.9 names (dcgm-readings.ts). On a shared GPU each pod repeats its series: the first one counts. The page
// holds the exporter's last collection (30 s by default), so a set of values seen before is no new reading.
// MIG instances are known by board and instance number only; processes, XID counts and events are not on the page.

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
import { sane } from "./sane.ts";

const GPUS_MAX = 256;
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
    return { usable: false, reason: (error as Error).message };
  }
}

/** What a page says of one GPU or MIG instance. */
interface Row {
  readonly info: GpuInfo;
  readonly readings: Map<string, number>;
}

/** All GPUs of a page. Of several series with one name and GPU, which are its pods, the first counts. */
export function readPage(page: MetricPage, scale: DcgmScale): ReadonlyMap<string, Row> {
  const rows = new Map<string, Row>();
  for (const [name, samples] of page.samples) {
    const stem = name.replace(PREFIX, "");
    const field = DCGM_FIELDS.find(({ names }) => Object.hasOwn(names, stem));
    if (field === undefined || !PREFIX.test(name)) continue;
    for (const { labels, value } of samples) {
      const info = infoOf(labels);
      if (info === undefined) continue;
      const row = rows.get(info.uuid) ?? { info, readings: new Map<string, number>() };
      if (rows.size < GPUS_MAX) rows.set(info.uuid, row);
      if (row.readings.has(field.reading)) continue;
      const scaled = scale.apply(name, value, field.names[stem] ?? 1);
      if (scaled !== undefined) row.readings.set(field.reading, scaled);
    }
  }
  return rows;
}

function infoOf(labels: Readonly<Record<string, string>>): GpuInfo | undefined {
  const board = labels["UUID"] ?? labels["uuid"];
  if (board === undefined || !/^(GPU|MIG)-/.test(board)) return undefined;
  const instance = labels["GPU_I_ID"];
  const profile = labels["GPU_I_PROFILE"];
  const name = labels["modelName"] ?? "unknown";
  const isInstance = instance !== undefined && instance !== "" && profile !== undefined && profile !== "";
  const pci = labels["pci_bus_id"];
  const driver = labels["DCGM_FI_DRIVER_VERSION"] ?? labels["DCGM_FI_SYSTEM_DRIVER_VERSION"];
  return {
    // The page does not know the instance's own UUID: this is how drivers before R470 spelled it.
    uuid: isInstance ? `MIG-${board}/${instance}/0` : board,
    index: Number(isInstance ? instance : (labels["gpu"] ?? 0)) || 0,
    name,
    weight: isInstance ? sliceWeight(profile, name) : 1,
    ...(isInstance ? { parent: board, migProfile: profile } : {}),
    ...(pci === undefined ? {} : { pciBusId: pci }),
    ...(driver === undefined ? {} : { driverVersion: driver }),
  };
}

/** `2g.12gb` on an A30 is two slices of four, elsewhere of seven. */
function sliceWeight(profile: string, product: string): number {
  const slices = Number(/^(\d+)g\./.exec(profile)?.[1] ?? 1);
  return Math.min(1, slices / (/\bA30\b/.test(product) ? 4 : 7));
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
  #infos: readonly GpuInfo[] = [];
  #due: Nanos = -Infinity;

  constructor(options: DcgmExporterConfig, context: SourceContext) {
    this.#options = options;
    this.#context = context;
    this.#fetcher = createPageFetcher({ url: options.url, timeoutMs: options.timeoutMs }, context);
  }

  async open(): Promise<void> {
    this.#take(await this.#page());
  }

  async inventory(): Promise<readonly GpuInfo[]> {
    return this.#infos;
  }

  async poll(): Promise<GpuPoll> {
    const { clock } = this.#context;
    const sent = clock.now();
    if (sent < this.#due) return { sent, received: sent, samples: [], gaps: this.#gaps(sent) };
    this.#due = sent + this.#options.intervalMs * NANOS_PER_MS;
    const rows = await this.#page();
    this.#take(rows);
    const received = clock.now();
    const samples = [...rows.values()].flatMap((row) => this.#sample(row, received) ?? []);
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

  /** A reading when anything in it changed since the last one: the page repeats itself between collections. */
  #sample(row: Row, at: Nanos): GpuSample | undefined {
    const { uuid } = row.info;
    const values = JSON.stringify([...row.readings]);
    if (this.#seen.get(uuid)?.values === values) {
      this.#counts.repeats++;
      return undefined;
    }
    this.#seen.set(uuid, { values, at });
    const checked = sane(dcgmSample(uuid, at, row.readings), at);
    this.#counts.absurd += checked?.dropped ?? 1;
    return checked?.sample;
  }

  #gaps(now: Nanos): readonly Gap[] {
    const oldest = now - this.#options.staleMs * NANOS_PER_MS;
    return this.#infos.flatMap(({ uuid }) => {
      const seen = this.#seen.get(uuid);
      if (seen !== undefined && seen.at >= oldest) return [];
      const reason = `the page repeats the same values for over ${this.#options.staleMs / 1000} s`;
      return [{ source: `gpu:${uuid}`, at: now, reason }];
    });
  }

  #take(rows: ReadonlyMap<string, Row>): void {
    const before = this.#infos.map(({ uuid }) => uuid).join();
    this.#infos = [...rows.values()].map(({ info, readings }) => {
      const memoryTotalBytes = totalMemory(readings);
      const powerLimitWatts = readings.get("powerLimitWatts");
      return {
        ...info,
        ...(memoryTotalBytes === undefined ? {} : { memoryTotalBytes }),
        ...(powerLimitWatts === undefined ? {} : { powerLimitWatts }),
      };
    });
    if (this.#infos.map(({ uuid }) => uuid).join() !== before) this.generation++;
  }
}
