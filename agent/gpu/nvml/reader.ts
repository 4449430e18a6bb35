// Everything the reader child does with an open library: enumerate, read every GPU once, notice what changed.
// It holds no timer and no channel; nvml-child.ts drives it. Lost GPUs and lifecycle codes come out as values.
import { readFileSync } from "node:fs";
import { ClockReader } from "./clocks.ts";
import { CODE, meaning } from "./codes.ts";
import type { Device } from "./device.ts";
import { NvmlFailure } from "./device.ts";
import { readClocks } from "./driver-clock.ts";
import type { Enumeration, Found } from "./inventory.ts";
import { enumerate, migFingerprint, versions } from "./inventory.ts";
import type { Nvml } from "./library.ts";
import { MemoryReader } from "./memory.ts";
import { FieldReader, PowerReader } from "./power.ts";
import { ProcessReader } from "./processes.ts";
import type { Draft, Failure, Inventory, ReaderStatus, Reading } from "./protocol.ts";
import { RingReader } from "./rings.ts";

const NANOS_PER_MS = 1e6;

/** What reading one GPU came to. */
export type Outcome = { readonly reading: Reading } | { readonly lost: Failure; readonly lifecycle: boolean };

/** Owns the library between init and shutdown. */
export class Reader {
  readonly #nvml: Nvml;
  readonly #slowNanos: number;
  readonly #fields = new FieldReader();
  readonly #rings = new RingReader();
  readonly #power = new PowerReader(this.#fields);
  readonly #memory = new MemoryReader();
  readonly #processes = new ProcessReader();
  readonly #clocks = new ClockReader(this.#fields);
  readonly #slowDue = new Map<string, number>();
  readonly #fingerprints = new Map<string, string>();
  #enumeration: Enumeration = { found: [], unreadable: [] };
  #epoch = "";
  #versions: { driver: string | undefined; nvml: string | undefined } = {
    driver: undefined,
    nvml: undefined,
  };

  constructor(nvml: Nvml, slowMs: number) {
    this.#nvml = nvml;
    this.#slowNanos = slowMs * NANOS_PER_MS;
  }

  /** Initialises the library and finds the GPUs. Throws NvmlFailure when the library or the driver refuses. */
  open(): Inventory {
    const code = this.#nvml.call("nvmlInit_v2");
    if (code !== CODE.success) throw new NvmlFailure("nvmlInit_v2", code);
    this.#versions = versions(this.#nvml);
    this.#epoch = `${bootId()}/${this.#versions.driver ?? "unknown driver"}`;
    return this.enumerate();
  }

  /** Finds the GPUs anew; a device that kept its handle keeps what is remembered of it. */
  enumerate(): Inventory {
    const known = new Map(this.#enumeration.found.map(({ device }) => [device.uuid, device]));
    this.#enumeration = enumerate(this.#nvml, this.#memory, this.#versions.driver, known);
    this.#fingerprints.clear();
    for (const { device } of this.#boards())
      this.#fingerprints.set(device.uuid, migFingerprint(this.#nvml, device));
    return this.inventory();
  }

  inventory(): Inventory {
    return {
      gpus: this.#enumeration.found.map(({ info, device }) => ({
        ...info,
        ...(device.unsupported.size === 0 ? {} : { unsupported: Object.fromEntries(device.unsupported) }),
      })),
      unreadable: this.#enumeration.unreadable,
      facts: {
        library: this.#nvml.path,
        driverVersion: this.#versions.driver,
        nvmlVersion: this.#versions.nvml,
        sampleClock: this.#enumeration.found[0]?.device.utilizationClock.kind,
      },
    };
  }

  /** The order of reading: `last` at the end, because a GPU that hangs holds up whatever comes after it. */
  order(skip: readonly string[], last: readonly string[]): readonly Found[] {
    const named = (found: Found, uuids: readonly string[]): boolean =>
      uuids.includes(found.device.uuid) || uuids.includes(found.device.parent?.uuid ?? "");
    const wanted = this.#enumeration.found.filter((found) => !named(found, skip));
    return [
      ...wanted.filter((found) => !named(found, last)),
      ...wanted.filter((found) => named(found, last)),
    ];
  }

  /** Reads one GPU. Never throws for what the driver says. */
  read(found: Found): Outcome {
    const draft: Draft = { gpu: found.device.uuid, at: readClocks().monotonicNanos };
    try {
      if (found.device.parent === undefined) this.#readBoard(found, draft);
      else this.#readInstance(found.device, draft);
      return { reading: draft };
    } catch (error) {
      if (!(error instanceof NvmlFailure)) throw error;
      return { lost: error.failure, lifecycle: meaning(error.code) === "lifecycle" };
    }
  }

  /** After a round: whether MIG instances came or went, so that the caller must enumerate. */
  topologyChanged(): boolean {
    return this.#boards().some(({ device }) => {
      const before = this.#fingerprints.get(device.uuid);
      if (before === undefined) return false;
      try {
        return migFingerprint(this.#nvml, device) !== before;
      } catch {
        return false;
      }
    });
  }

  /** After a round: forgets what belongs to processes that are gone. */
  tidy(): void {
    this.#processes.prune(this.#enumeration.found.map(({ device }) => device));
  }

  status(): ReaderStatus {
    const readers = [this.#rings, this.#power, this.#memory, this.#processes, this.#clocks];
    return {
      absurdReadings: readers.reduce((sum, reader) => sum + reader.absurd, 0),
      unsupported: Object.fromEntries(
        this.#enumeration.found.map(({ device }) => [device.uuid, Object.fromEntries(device.unsupported)]),
      ),
    };
  }

  /** Closes every device handle. */
  close(): void {
    this.#enumeration = { found: [], unreadable: [] };
    this.#nvml.call("nvmlShutdown");
  }

  #boards(): readonly Found[] {
    return this.#enumeration.found.filter(({ device }) => device.parent === undefined);
  }

  #readBoard({ device, meanPower, migEnabled }: Found, draft: Draft): void {
    this.#power.read(this.#nvml, device, meanPower, draft);
    draft.energyEpoch = this.#epoch;
    this.#memory.read(this.#nvml, device, draft);
    this.#rings.read(this.#nvml, device, draft);
    // Under MIG the board lists the processes of all its instances: they are the instances' residents.
    if (!migEnabled) this.#processes.read(this.#nvml, device, draft);
    if (this.#slowIsDue(device)) this.#clocks.read(this.#nvml, device, draft);
  }

  #readInstance(device: Device, draft: Draft): void {
    this.#memory.read(this.#nvml, device, draft);
    this.#processes.read(this.#nvml, device, draft);
  }

  /** Slow readings of the GPUs are spread over the polls, so that none carries them all. */
  #slowIsDue(device: Device): boolean {
    const now = readClocks().monotonicNanos;
    const due = this.#slowDue.get(device.uuid) ?? 0;
    if (now < due) return false;
    const spread = due === 0 ? ((device.index % 5) / 5) * this.#slowNanos : 0;
    this.#slowDue.set(device.uuid, now + this.#slowNanos - spread);
    return true;
  }
}

/** Identity of this boot: the energy counter starts anew with it. */
function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "unknown boot";
  }
}
