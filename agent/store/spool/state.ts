// What a spool remembers beside its records: positions, losses, and how far it had come.
import type { Log } from "../../platform/log.ts";
import type { KeptLosses, LossBook } from "./losses.ts";
import type { SlotFile } from "./slot-file.ts";

/** The state as it is kept. */
export interface KeptState {
  /** Newest sequence that was appended. */
  readonly head: number;
  readonly positions: Readonly<Record<string, number>>;
  readonly losses: KeptLosses;
  /** Sequences that were only in memory. */
  readonly volatile?: readonly [from: number, to: number] | undefined;
}

/** Keeps the state of one spool. */
export class SpoolState {
  readonly positions: Map<string, number>;
  readonly losses: LossBook;
  #slots: SlotFile | undefined;
  readonly #log: Log;
  #saving: Promise<void> | undefined;
  #dirty = false;
  head: number;
  volatile: KeptState["volatile"];

  /** Without slots the disk refused even those, and the state lives as long as the process. */
  constructor(
    kept: { positions: Map<string, number>; losses: LossBook; head: number },
    slots: SlotFile | undefined,
    log: Log,
  ) {
    this.positions = kept.positions;
    this.losses = kept.losses;
    this.head = kept.head;
    this.#slots = slots;
    this.#log = log;
  }

  /** The sequence every destination has passed. */
  get passed(): number {
    return this.positions.size === 0 ? this.head : Math.min(...this.positions.values());
  }

  /** Writes soon and without syncing: positions lost in a power cut are sent again. */
  save(): void {
    this.#dirty = true;
    this.#saving ??= (async () => {
      while (this.#dirty) await this.#write(false);
      this.#saving = undefined;
    })();
  }

  /** Writes; the state is on the disk when it resolves, or the log says that it is not. */
  sync(): Promise<void> {
    return this.#write(true);
  }

  /** Whether its file, if it has one, is still there. */
  async isInPlace(): Promise<boolean> {
    return this.#slots === undefined || (await this.#slots.isInPlace());
  }

  /** Goes on in another file, in the place of one that is gone. */
  async moveTo(slots: SlotFile | undefined): Promise<void> {
    const before = this.#slots;
    this.#slots = slots;
    await this.#write(true);
    await before?.close().catch(() => {});
  }

  async close(): Promise<void> {
    while (this.#saving !== undefined) await this.#saving;
    await this.#write(true);
    await this.#slots?.close().catch(() => {});
  }

  async #write(durable: boolean): Promise<void> {
    this.#dirty = false;
    const { head, losses, positions, volatile } = this;
    const state: KeptState = {
      head,
      positions: Object.fromEntries(positions),
      losses: losses.keep(),
      volatile,
    };
    await this.#slots?.write(state, durable).catch((error: Error) => {
      this.#log.warn("cannot write spool positions", { source: "spool", cause: error.message });
    });
  }
}
