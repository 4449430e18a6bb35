// A ledger whose jobs are done at once, in one go and without a sync: for tests that ask what is stored, not when.
import type { LedgerBatch } from "../../../agent/model.ts";
import type { LedgerFileOptions, LedgerOpened, Stored } from "../../../agent/store/ledger/database.ts";
import { LedgerDatabase } from "../../../agent/store/ledger/database.ts";
import type { SumsSince } from "../../../agent/store/ledger/reader.ts";
import { runAtOnce } from "../../../agent/store/ledger/steps.ts";

type Asked<K extends keyof LedgerDatabase> = LedgerDatabase[K] extends (...args: infer A) => unknown
  ? A
  : never;

/** An open ledger. */
export class LedgerAtOnce {
  readonly opened: LedgerOpened;
  readonly #ledger: LedgerDatabase;

  constructor(options: LedgerFileOptions, freeBytes?: (folder: string) => number) {
    this.#ledger = new LedgerDatabase(options, freeBytes);
    this.opened = this.#ledger.opened;
  }

  commit(batch: LedgerBatch): Stored {
    return runAtOnce(this.#ledger.commit(batch));
  }

  prune(time: bigint): number {
    return runAtOnce(this.#ledger.prune(time));
  }

  revise(...asked: Asked<"revise">): void {
    runAtOnce(this.#ledger.revise(...asked));
  }

  delivered(...asked: Asked<"delivered">): void {
    runAtOnce(this.#ledger.delivered(...asked));
  }

  findUsage(keys: readonly string[]): ReadonlyMap<string, string> {
    return runAtOnce(this.#ledger.findUsage(keys));
  }

  sumsSince(...asked: Asked<"sumsSince">): SumsSince {
    return runAtOnce(this.#ledger.sumsSince(...asked));
  }

  close(): void {
    this.#ledger.close();
  }
}
