// The ledger database from the main thread's side: requests to the worker that owns it (worker.ts).
// A commit resolves once it is on disk; only then may its snapshot be shown to anyone (METERING.md 1).
import { Worker } from "node:worker_threads";
import type { AuditEntry, BucketNumber, ChainedAudit, LedgerBatch } from "../../model.ts";
import { memoryOf } from "./batch-columns.ts";
import type { LedgerFileOptions, LedgerOpened, Stored } from "./database.ts";
import type { SumsSince } from "./reader.ts";

/** What the main thread asks. */
export type LedgerRequest =
  | { readonly id: number; readonly kind: "open" }
  | { readonly id: number; readonly kind: "commit"; readonly batch: LedgerBatch }
  | { readonly id: number; readonly kind: "delivered"; readonly sink: string; readonly bucket: number }
  | { readonly id: number; readonly kind: "spool"; readonly sequence: number }
  | { readonly id: number; readonly kind: "usage"; readonly keys: readonly string[] }
  | { readonly id: number; readonly kind: "sums"; readonly metrics: readonly string[]; readonly from: number }
  | { readonly id: number; readonly kind: "audit"; readonly after: number; readonly max: number }
  | { readonly id: number; readonly kind: "note"; readonly entry: AuditEntry }
  | { readonly id: number; readonly kind: "close" };

/** What the worker answers. */
export interface LedgerAnswer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: {
    readonly message: string;
    readonly hint?: string;
    readonly pid?: number;
    readonly gone?: boolean;
  };
}

/**
 * Why the ledger cannot do what was asked. `pid` names the agent that has the state directory; `gone`: the file is no
 * longer there, and only opening it again helps.
 */
export class LedgerStoreError extends Error {
  readonly hint: string | undefined;
  readonly pid: number | undefined;
  readonly gone: boolean;

  constructor(failure: NonNullable<LedgerAnswer["error"]>) {
    super(failure.message);
    this.name = "LedgerStoreError";
    this.hint = failure.hint;
    this.pid = failure.pid;
    this.gone = failure.gone === true;
  }
}

type WithoutId<T> = T extends unknown ? Omit<T, "id"> : never;

/** An open ledger store. */
export class LedgerStore {
  readonly opened: LedgerOpened;
  readonly #port: Port;

  private constructor(port: Port, opened: LedgerOpened) {
    this.#port = port;
    this.opened = opened;
  }

  /** Opens or creates the ledger in a folder. Rejects with a `LedgerStoreError` when another agent has it. */
  static async open(options: LedgerFileOptions): Promise<LedgerStore> {
    const port = new Port(options);
    try {
      return new LedgerStore(port, (await port.ask({ kind: "open" })) as LedgerOpened);
    } catch (error) {
      await port.end();
      throw error;
    }
  }

  /** Stores a beat, whose columns are gone afterwards. Rejects when the disk takes nothing; the next call stores both beats. */
  async commit(batch: LedgerBatch): Promise<Stored> {
    return (await this.#port.ask({ kind: "commit", batch }, memoryOf(batch))) as Stored;
  }

  /** Remembers that a sink has every bucket before `bucket`. */
  async delivered(sink: string, bucket: number): Promise<void> {
    await this.#port.ask({ kind: "delivered", sink, bucket });
  }

  /** Remembers where the spool stood before this ledger's first commit with it. */
  async startSpool(sequence: number): Promise<void> {
    await this.#port.ask({ kind: "spool", sequence });
  }

  /** What counted usage records were stored with, by key, as of the last commit. */
  async findUsage(keys: readonly string[]): Promise<ReadonlyMap<string, string>> {
    return (await this.#port.ask({ kind: "usage", keys })) as ReadonlyMap<string, string>;
  }

  /** What the series of these metrics moved from a bucket on, as of the last commit. */
  async sumsSince(metrics: readonly string[], from: BucketNumber): Promise<SumsSince> {
    return (await this.#port.ask({ kind: "sums", metrics, from })) as SumsSince;
  }

  /** Entries of the audit record after `sequence`, oldest first, as of the last commit. */
  async auditAfter(sequence: number, max: number): Promise<readonly ChainedAudit[]> {
    return (await this.#port.ask({ kind: "audit", after: sequence, max })) as readonly ChainedAudit[];
  }

  /** Appends to the audit record outside a beat. */
  async writeAudit(entry: AuditEntry): Promise<void> {
    await this.#port.ask({ kind: "note", entry });
  }

  /** Closes the file, gives the state directory back and ends the worker. */
  async close(): Promise<void> {
    await this.#port.ask({ kind: "close" });
    await this.#port.end();
  }
}

/** Requests in flight to the worker. */
class Port {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #next = 1;
  #dead: Error | undefined;

  constructor(options: LedgerFileOptions) {
    this.#worker = new Worker(new URL("./worker.ts", import.meta.url), { workerData: options });
    this.#worker.unref();
    this.#worker.on("message", (answer: LedgerAnswer) => this.#answered(answer));
    this.#worker.on("error", (error: Error) => this.#died(error));
    this.#worker.on("exit", (code) => this.#died(new Error(`the ledger worker ended with code ${code}`)));
  }

  /** `memory`: what of the request is handed over and gone from this thread. */
  ask(request: WithoutId<LedgerRequest>, memory: readonly ArrayBuffer[] = []): Promise<unknown> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead);
    const id = this.#next++;
    const { promise, reject, resolve } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    // While an answer is awaited the process must not end.
    this.#worker.ref();
    this.#worker.postMessage({ ...request, id }, memory);
    return promise;
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #answered(answer: LedgerAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (this.#waiting.size === 0) this.#worker.unref();
    if (answer.error === undefined) waiting?.resolve(answer.value);
    else waiting?.reject(new LedgerStoreError(answer.error));
  }

  #died(error: Error): void {
    this.#dead ??= error;
    for (const waiting of this.#waiting.values()) waiting.reject(this.#dead);
    this.#waiting.clear();
  }
}
