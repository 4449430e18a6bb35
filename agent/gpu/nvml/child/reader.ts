// Everything the reader child does with an open library: enumerate, read every GPU once, notice what changed.
// It holds no timer and no channel; main.ts drives it. Lost GPUs and lifecycle codes come out as values.
import { readFileSync } from "node:fs";
import { NANOS_PER_MS } from "../../../platform/clock.ts";
import { CODE, meaning } from "../codes.ts";
import type { Draft, Failure, Inventory, ReaderStatus, Reading } from "../protocol.ts";
import { ClockReader } from "./clocks.ts";
import { CounterReader } from "./counters.ts";
import type { Device } from "./device.ts";
import { NvmlFailure } from "./device.ts";
import { readClocks } from "./driver-clock.ts";
import { parseDriverVersion } from "./driver-version.ts";
import { EventWatcher } from "./events.ts";
import { GpmReader } from "./gpm.ts";
import type { Enumeration, Found, IndexRules } from "./inventory.ts";
import { enumerate, migFingerprint, versions } from "./inventory.ts";
import type { Nvml } from "./library.ts";
import { MemoryReader } from "./memory.ts";
import { FieldReader, PowerReader } from "./power.ts";
import { ProcessReader } from "./processes.ts";
import { RingReader } from "./rings.ts";

/** Counters and the MIG state of boards without instances are looked at every fifth slow beat. */
const RARE = 5;

/** What reading one GPU came to. */
export type Outcome = { readonly reading: Reading } | { readonly lost: Failure; readonly lifecycle: boolean };

/** When the slow readings of a GPU are due next, how many beats there were, and whether this poll is one. */
interface Beat {
  readonly due: number;
  readonly count: number;
  readonly fresh: boolean;
}

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
  readonly #counters = new CounterReader(this.#fields);
  readonly #gpm = new GpmReader();
  readonly #events: EventWatcher;
  readonly #watchEvents: boolean;
  readonly #rules: IndexRules;
  readonly #beats = new Map<string, Beat>();
  #suspectTopology = false;
  #statusSeen = "";
  readonly #fingerprints = new Map<string, string>();
  #enumeration: Enumeration = { found: [], unreadable: [] };
  #epoch = "";
  #versions: { driver: string | undefined; nvml: string | undefined } = {
    driver: undefined,
    nvml: undefined,
  };

  constructor(nvml: Nvml, options: { readonly slowMs: number; readonly events: boolean }, rules: IndexRules) {
    this.#rules = rules;
    this.#nvml = nvml;
    this.#slowNanos = options.slowMs * NANOS_PER_MS;
    this.#watchEvents = options.events;
    this.#events = new EventWatcher(nvml, () => this.#boards().map(({ device }) => device));
  }

  /** Initialises the library and finds the GPUs. Throws NvmlFailure when the library or the driver refuses. */
  open(): Inventory {
    const code = this.#nvml.call("nvmlInit_v2");
    if (code !== CODE.success) throw new NvmlFailure("nvmlInit_v2", code);
    this.#versions = versions(this.#nvml);
    this.#epoch = `${bootId()}/${this.#versions.driver ?? "unknown driver"}`;
    const driver = parseDriverVersion(this.#versions.driver);
    this.#processes.expect(driver);
    this.#clocks.expect(driver);
    const inventory = this.enumerate();
    if (this.#watchEvents) this.#events.start();
    return inventory;
  }

  /** Finds the GPUs again; a device that kept its handle keeps what is remembered of it. */
  enumerate(): Inventory {
    const known = new Map(this.#enumeration.found.map(({ device }) => [device.uuid, device]));
    this.#enumeration = enumerate(this.#nvml, this.#memory, this.#versions.driver, known, this.#rules);
    this.#suspectTopology = false;
    this.#events.migChanged = false;
    this.#gpm.keep(new Set(this.#enumeration.found.map(({ device }) => device)), this.#nvml);
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
        missingCalls: this.#nvml.missing(),
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
      if (meaning(error.code) === "stale") this.#suspectTopology = true;
      return { lost: error.failure, lifecycle: meaning(error.code) === "lifecycle" };
    }
  }

  /** After a round: whether MIG instances came or went, so that the caller must enumerate. */
  topologyChanged(): boolean {
    const asked = this.#suspectTopology || this.#events.migChanged;
    this.#suspectTopology = false;
    this.#events.migChanged = false;
    return this.#boards().some(({ device, migEnabled }) => {
      const before = this.#fingerprints.get(device.uuid);
      const beat = this.#beats.get(device.uuid);
      const due = asked || (beat?.fresh && (migEnabled || beat.count % RARE === 1));
      if (before === undefined || !due) return false;
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

  /** What was counted and refused; undefined when nothing changed since the last time it was asked. */
  status(): ReaderStatus | undefined {
    const readers = [
      this.#rings,
      this.#power,
      this.#memory,
      this.#processes,
      this.#clocks,
      this.#counters,
      this.#gpm,
    ];
    const absurdReadings = readers.reduce((sum, reader) => sum + reader.absurd, 0);
    const refused = this.#enumeration.found.map(({ device }) => device.unsupported.size);
    const { rowBytes } = this.#processes;
    const seen = `${absurdReadings}/${rowBytes}/${refused.join()}`;
    if (seen === this.#statusSeen) return undefined;
    this.#statusSeen = seen;
    return {
      absurdReadings,
      ...(rowBytes === undefined ? {} : { processRowBytes: rowBytes }),
      unsupported: Object.fromEntries(
        this.#enumeration.found.map(({ device }) => [device.uuid, Object.fromEntries(device.unsupported)]),
      ),
    };
  }

  /** Closes every device handle; takes up to a second where events are waited for. */
  async close(): Promise<void> {
    await this.#events.stop();
    this.#gpm.keep(new Set(), this.#nvml);
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
    const beat = this.#beat(device);
    if (beat.fresh) {
      this.#clocks.read(this.#nvml, device, draft);
      this.#power.readModule(this.#nvml, device, draft);
      const traffic = this.#gpm.read(this.#nvml, device, this.#counters.needsRates(device), draft);
      this.#counters.addWindow(device, traffic);
      if (beat.count % RARE === 1) this.#counters.read(this.#nvml, device, draft);
    }
    const xids = this.#events.xids(device);
    if (xids !== undefined) draft.xidEvents = { ...xids };
  }

  /** Only GPM shows whether an instance works, so it is read at every poll here. */
  #readInstance(device: Device, draft: Draft): void {
    this.#memory.read(this.#nvml, device, draft);
    this.#processes.read(this.#nvml, device, draft);
    this.#gpm.read(this.#nvml, device, false, draft);
  }

  /** The slow beat of a GPU; beats of several GPUs are spread over the polls, so that none carries them all. */
  #beat(device: Device): Beat {
    const now = readClocks().monotonicNanos;
    const before = this.#beats.get(device.uuid);
    if (before !== undefined && now < before.due) {
      const same = { ...before, fresh: false };
      this.#beats.set(device.uuid, same);
      return same;
    }
    const spread = before === undefined ? ((device.index % RARE) / RARE) * this.#slowNanos : 0;
    const next = { due: now + this.#slowNanos - spread, count: (before?.count ?? 0) + 1, fresh: true };
    this.#beats.set(device.uuid, next);
    return next;
  }
}

/** Identity of this boot: the energy counter starts from 0 with it. */
function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "unknown boot";
  }
}
