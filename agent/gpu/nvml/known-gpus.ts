// What the agent knows of each GPU between polls: its inventory entry and, when it cannot be read, why and when it is
// tried again. A GPU that is lost or hangs stays known: its time is unobserved, not gone.
import type { Gap, GpuInfo, Nanos } from "../../model.ts";
import { Backoff } from "../backoff.ts";
import type { Inventory } from "./protocol.ts";

const RETRY_MOST_MS = 600_000;

/** What is wrong with one GPU and when it is tried again. */
interface Trouble {
  readonly kind: "hung" | "lost";
  readonly backoff: Backoff;
  readonly reason: string;
}

/** The GPUs of this host as last enumerated, with their troubles. */
export class KnownGpus {
  readonly #retryMs: number;
  readonly #infos = new Map<string, GpuInfo>();
  readonly #trouble = new Map<string, Trouble>();

  constructor(retryMs: number) {
    this.#retryMs = retryMs;
  }

  get infos(): readonly GpuInfo[] {
    return [...this.#infos.values()];
  }

  /** Reasons by UUID. */
  get reasons(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#trouble].map(([uuid, { reason }]) => [uuid, reason]));
  }

  /** Takes an inventory over; true when the set of GPUs, or what is fixed about one, changed. */
  take(inventory: Inventory, now: Nanos): boolean {
    const before = this.#fingerprint();
    const current = new Set(inventory.gpus.map(({ uuid }) => uuid));
    const failed = new Map(inventory.unreadable.map(({ index, failure }) => [index, failure]));
    for (const [uuid, info] of [...this.#infos]) {
      if (current.has(uuid)) continue;
      const board = info.parent === undefined ? info : this.#infos.get(info.parent);
      const failure = board === undefined || current.has(board.uuid) ? undefined : failed.get(board.index);
      if (failure !== undefined) this.markUnread(uuid, "lost", failure.message, now);
      else {
        this.#infos.delete(uuid);
        this.#trouble.delete(uuid);
      }
    }
    for (const info of inventory.gpus) this.#infos.set(info.uuid, info);
    return this.#fingerprint() !== before;
  }

  /** Books that a GPU could not be read; each failure after its due time doubles the wait. */
  markUnread(uuid: string, kind: Trouble["kind"], reason: string, now: Nanos): void {
    const backoff = this.#trouble.get(uuid)?.backoff ?? new Backoff(this.#retryMs, RETRY_MOST_MS);
    if (now >= backoff.due) backoff.doubleWait(now);
    this.#trouble.set(uuid, { kind, backoff, reason });
  }

  /** Books that a GPU was read; true when it had been in trouble. */
  heal(uuid: string): boolean {
    return this.#trouble.delete(uuid);
  }

  /** GPUs that hung: those to leave out now, and those to try again, after all others. */
  hung(now: Nanos): { readonly skip: readonly string[]; readonly last: readonly string[] } {
    const all = [...this.#trouble].filter(([, { kind }]) => kind === "hung");
    return {
      skip: all.filter(([, { backoff }]) => now < backoff.due).map(([uuid]) => uuid),
      last: all.filter(([, { backoff }]) => now >= backoff.due).map(([uuid]) => uuid),
    };
  }

  /** Whether a lost GPU is due: it comes back only to a library that was initialised again. Starts its next wait. */
  lostIsDue(now: Nanos): boolean {
    const due = [...this.#trouble.values()].filter(
      ({ kind, backoff }) => kind === "lost" && now >= backoff.due,
    );
    for (const { backoff } of due) backoff.doubleWait(now);
    return due.length > 0;
  }

  /** Every known GPU that is not among those read, as a gap with its reason. */
  gaps(read: ReadonlySet<string>, at: Nanos): readonly Gap[] {
    return this.infos.flatMap((info) => {
      if (read.has(info.uuid)) return [];
      const trouble = this.#trouble.get(info.uuid) ?? this.#trouble.get(info.parent ?? "");
      return [
        { source: `gpu:${info.uuid}`, at, reason: trouble?.reason ?? "the reader stopped before this GPU" },
      ];
    });
  }

  /** Not the reasons for missing readings, which come and go. */
  #fingerprint(): string {
    return JSON.stringify(this.infos.map(({ unsupported, ...fixed }) => fixed));
  }
}
