// What is said of energy counters that power does not bear out: one log line and one audit record when a counter is
// replaced by integrated power and when it is believed again, and the ratio of the last minute as a gauge.
import type { EnergyTotals } from "../correlate/energy/meter.ts";
import type { Books } from "../meter/books.ts";
import { counterRatioGauge } from "../meter/gauges.ts";
import type { GpuInfo, Nanos } from "../model.ts";
import type { Log } from "../platform/log.ts";

const WHY = {
  stands_still: "it stands still while the GPU draws power",
  disagrees: "it differs from power by more than 15 % for 5 minutes",
} as const;

/** Remembers which counters were said to be replaced. */
export class CounterDoubts {
  readonly #books: Books;
  readonly #log: Log;
  readonly #suspected = new Set<string>();
  readonly #replaced = new Map<string, keyof typeof WHY>();

  constructor(books: Books, log: Log) {
    this.#books = books;
    this.#log = log;
  }

  /** Says what changed by `at`. */
  report(
    energy: Readonly<Record<string, EnergyTotals>>,
    gpus: ReadonlyMap<string, GpuInfo>,
    at: Nanos,
  ): void {
    for (const [gpu, { counterDoubt, counterRatio, counterScope, counterSuspect }] of Object.entries(
      energy,
    )) {
      const info = gpus.get(gpu);
      if (info !== undefined && counterRatio !== undefined)
        this.#books.ledger.observe(counterRatioGauge(info, counterRatio, at));
      const before = this.#replaced.get(gpu);
      const about = {
        ...{ gpu, counter: "energy" },
        ...(counterRatio === undefined ? {} : { ratio: counterRatio }),
        ...(counterScope === undefined ? {} : { scope: counterScope }),
      };
      if (counterSuspect !== true) this.#suspected.delete(gpu);
      else if (counterDoubt === undefined && !this.#suspected.has(gpu)) {
        this.#suspected.add(gpu);
        this.#log.warn("energy counter and power disagree", { source: `gpu:${gpu}`, ...about });
      }
      if (counterDoubt === before) continue;
      if (counterDoubt === undefined) {
        this.#replaced.delete(gpu);
        this.#log.info("energy counter agrees with power again", { source: `gpu:${gpu}`, ...about });
        this.#books.noteAudit("rejected", at, { ...about, why: "the counter agrees with power again" });
        continue;
      }
      this.#replaced.set(gpu, counterDoubt);
      this.#log.warn("energy counter is replaced by integrated power", {
        source: `gpu:${gpu}`,
        ...about,
        cause: WHY[counterDoubt],
      });
      this.#books.noteAudit("rejected", at, { ...about, why: WHY[counterDoubt] });
    }
  }
}
