// XID and MIG events: a wait that blocks by design, on a thread of koffi's pool, beside the reading thread.
// Only event types a GPU supports are registered, one unsupported bit would fail them all; a failed registration is
// tried again. Events before registration are lost. nvmlEventSetWait may return early with TIMEOUT.
import { CODE, meaning } from "../codes.ts";
import type { Device } from "./device.ts";
import { Cell, EVENT, WORD } from "./layouts.ts";
import type { Nvml } from "./library.ts";

const XID = 0x8;
const MIG_CONFIGURATION = 0x100;
/** How long a wait lasts where nothing happens: each wakes two threads, and an event ends it at once. */
const WAIT_MS = 1000;
const CODES_MAX = 200;
/** Waits between two attempts to register what failed. */
const RETRY_WAITS = 30;

/** Counts XIDs per board while the library is open. */
export class EventWatcher {
  readonly #nvml: Nvml;
  readonly #devices: () => readonly Device[];
  readonly #counts = new Map<string, Record<string, number>>();
  readonly #registered = new Map<number, Device>();
  readonly #event = new Cell(EVENT.size);
  #set: number | undefined;
  #stopping = false;
  #waiting: Promise<void> | undefined;
  /** Set when a GPU said that its MIG instances changed; whoever acts on it resets it. */
  migChanged = false;

  constructor(nvml: Nvml, devices: () => readonly Device[]) {
    this.#nvml = nvml;
    this.#devices = devices;
  }

  /** Events by XID code since the watcher started; undefined where events cannot be watched. */
  xids(device: Device): Readonly<Record<string, number>> | undefined {
    if (!this.#registered.has(device.handle)) return undefined;
    return this.#counts.get(device.uuid) ?? {};
  }

  start(): void {
    const cell = new Cell(WORD);
    if (this.#nvml.call("nvmlEventSetCreate", cell) !== CODE.success) return;
    this.#set = cell.handle();
    this.#waiting = this.#watch(this.#set);
  }

  /** Ends after the wait in progress, at most a second; the set is freed before the library may be shut down. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#waiting;
    if (this.#set !== undefined) this.#nvml.call("nvmlEventSetFree", this.#set);
    this.#set = undefined;
  }

  async #watch(set: number): Promise<void> {
    for (let round = 0; !this.#stopping; round++) {
      if (round % RETRY_WAITS === 0) this.#register(set);
      if (this.#registered.size === 0) {
        // Nothing to wait for: the loop ends, and with it its thread.
        return;
      }
      const code = await this.#nvml.callAsync("nvmlEventSetWait_v2", set, this.#event.fresh(), WAIT_MS);
      if (code === CODE.success) this.#count();
      else if (meaning(code) !== "empty") return;
    }
  }

  #register(set: number): void {
    for (const device of this.#devices()) {
      if (this.#registered.has(device.handle)) continue;
      const cell = new Cell(WORD);
      if (this.#nvml.call("nvmlDeviceGetSupportedEventTypes", device.handle, cell) !== CODE.success) continue;
      const mask = cell.u32() & (XID | MIG_CONFIGURATION);
      if (mask === 0) device.refuse("events", "this GPU reports no XID events");
      else if (this.#nvml.call("nvmlDeviceRegisterEvents", device.handle, mask, set) === CODE.success) {
        this.#registered.set(device.handle, device);
      }
    }
  }

  #count(): void {
    const device = this.#registered.get(this.#event.handle(EVENT.device));
    const type = this.#event.u32(EVENT.type);
    if (type === MIG_CONFIGURATION) this.migChanged = true;
    if (device === undefined || type !== XID) return;
    const counts = this.#counts.get(device.uuid) ?? {};
    this.#counts.set(device.uuid, counts);
    const code = String(this.#event.u32(EVENT.data));
    if (counts[code] === undefined && Object.keys(counts).length >= CODES_MAX) return;
    counts[code] = (counts[code] ?? 0) + 1;
  }
}
