// What the agent knows of each GPU between polls: its inventory entry and, when it cannot be read, why and when it is
// tried again. A GPU that is lost, hangs or is no longer listed stays known: its time is unobserved, not gone. An index that
// the driver counts and never opened is a GPU too; its place stands for its UUID.
import type { Gap, GpuInfo, Nanos } from "../../model.ts";
import { Backoff } from "../backoff.ts";
import { gapHint, KnownBoards, unreadGpu } from "../known-boards.ts";
import type { Inventory } from "./protocol.ts";

const RETRY_MOST_MS = 600_000;
/** Why a board that left the driver's list cannot be read. */
const LEFT = "the driver no longer lists it: it fell off the bus or was removed";

/** What is wrong with one GPU and when it is tried again. */
interface Trouble {
  /** hung while it was read; lost: only a library that is initialised again finds it; stuck: hangs when it is opened. */
  readonly kind: "hung" | "lost" | "stuck";
  readonly backoff: Backoff;
  readonly reason: string;
}

/** The GPUs of this host as last enumerated, with their troubles. */
export class KnownGpus {
  readonly #retryMs: number;
  readonly #boards = new KnownBoards();
  readonly #trouble = new Map<string, Trouble>();

  constructor(retryMs: number) {
    this.#retryMs = retryMs;
  }

  get infos(): readonly GpuInfo[] {
    return this.#boards.infos;
  }

  /** Reasons by UUID. */
  get reasons(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#trouble].map(([uuid, { reason }]) => [uuid, reason]));
  }

  /** Takes an inventory over; true when the set of GPUs, or what is fixed about one, changed. */
  take(inventory: Inventory, now: Nanos): boolean {
    const unread = inventory.unreadable.map(({ failure, index }) =>
      unreadGpu(index, `GPU ${index}: ${failure.message}`),
    );
    const changed = this.#boards.take([...inventory.gpus, ...unread]);
    const known = new Set(this.infos.map(({ uuid }) => uuid));
    for (const uuid of this.#trouble.keys()) if (!known.has(uuid)) this.#trouble.delete(uuid);
    const stuck = new Set(
      unread.flatMap(({ unreadable }, place) => (inventory.unreadable[place]?.hangs ? unreadable : [])),
    );
    for (const { uuid, unreadable } of this.infos) {
      if (unreadable !== undefined)
        this.markUnread(uuid, stuck.has(unreadable) ? "stuck" : "lost", unreadable, now);
      else if (this.#boards.left.has(uuid)) this.markUnread(uuid, "lost", LEFT, now);
    }
    return changed;
  }

  /** Books that a GPU could not be read; each failure after its due time doubles the wait. */
  markUnread(uuid: string, kind: Trouble["kind"], reason: string, now: Nanos): void {
    const backoff = this.#trouble.get(uuid)?.backoff ?? new Backoff(this.#retryMs, RETRY_MOST_MS);
    if (now >= backoff.due) backoff.doubleWait(now);
    this.#trouble.set(uuid, { kind, backoff, reason });
  }

  /** Books that a GPU was read; true when it had been in trouble. */
  heal(uuid: string): boolean {
    this.#boards.markRead(uuid);
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
      const reason = trouble?.reason ?? "the reader stopped before this GPU";
      return [{ source: `gpu:${info.uuid}`, at, reason, ...gapHint(reason, info) }];
    });
  }
}
