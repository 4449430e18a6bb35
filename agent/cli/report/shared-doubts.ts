// Joules of a GPU that may belong to another of its servers are booked for the GPU, under no server. A report by server
// gives each the part that it has of the energy of the GPU's servers: their shares add up to what is in doubt.
import type { Plan } from "../../meter/figures/report-plan.ts";
import type { Dimensions, Histogram } from "../../model.ts";
import type { StoredSeries } from "../../store/ledger/reader.ts";
import type { LedgerView } from "./repriced.ts";

const doubtMetric = "tokenwatt.uncertain_energy";
const heldMetric = "tokenwatt.server.energy";

interface OfGpu {
  doubt: bigint;
  held: bigint;
}

/** What is in doubt between the servers of each GPU, in a stretch of buckets. */
export class SharedDoubts {
  readonly #reader: LedgerView;
  readonly #series: ReadonlyMap<number, StoredSeries>;
  #gpus = new Map<string, OfGpu>();

  constructor(reader: LedgerView, plan: Plan) {
    this.#reader = reader;
    const isByServer = plan.energy === heldMetric && plan.uncertainEnergy === doubtMetric;
    const series = isByServer ? [...reader.series(new Set([doubtMetric, heldMetric]))] : [];
    const isNone = series.every(([, one]) => !isOfNoServer(one));
    this.#series = new Map(
      isNone ? [] : series.filter(([, one]) => one.metric === heldMetric || isOfNoServer(one)),
    );
  }

  /** Sums these buckets, whatever is asked of them: the parts are of all servers of a GPU. */
  read(from: number, to: number): void {
    this.#gpus = new Map();
    if (this.#series.size === 0) return;
    for (const [id, moved] of this.#reader.sums(from, to, this.#series)) {
      const stored = this.#series.get(id);
      if (stored === undefined || typeof moved !== "bigint") continue;
      const gpu = gpuOf(stored.dimensions);
      const sums = this.#gpus.get(gpu) ?? { doubt: 0n, held: 0n };
      this.#gpus.set(gpu, sums);
      sums[stored.metric === heldMetric ? "held" : "doubt"] += moved;
    }
  }

  /** Whether a series is given to servers by their parts, and not counted as it is. */
  isShared(stored: StoredSeries): boolean {
    if (this.#series.size === 0 || !isOfNoServer(stored)) return false;
    return (this.#gpus.get(gpuOf(stored.dimensions))?.held ?? 0n) > 0n;
  }

  /** What is in doubt of energy that a server has of a GPU. */
  partOf(
    { dimensions, metric }: StoredSeries,
    moved: bigint | Histogram,
  ): { readonly metric: string; readonly dimensions: Dimensions; readonly moved: bigint } | undefined {
    if (metric !== heldMetric || typeof moved !== "bigint") return undefined;
    const { doubt, held } = this.#gpus.get(gpuOf(dimensions)) ?? { doubt: 0n, held: 0n };
    return doubt > 0n && held > 0n
      ? { metric: doubtMetric, dimensions: {}, moved: (doubt * moved) / held }
      : undefined;
  }
}

function isOfNoServer({ dimensions, metric }: StoredSeries): boolean {
  return metric === doubtMetric && dimensions["tokenwatt.server.id"] === undefined;
}

function gpuOf(dimensions: Dimensions): string {
  return dimensions["hw.id"] ?? "";
}
