// Counters read rarely: ECC errors and traffic over PCIe and NVLink, in bytes since the reader opened.
// Traffic comes from the driver's byte counters, else from GPM rates times their window; never from
// nvmlDeviceGetPcieThroughput, which blocks 20 ms per direction. A counter that falls has wrapped: that step is lost.

import type { Draft } from "../protocol.ts";
import type { Device } from "./device.ts";
import type { Traffic } from "./gpm.ts";
import { Cell, FIELD_ID, WORD } from "./layouts.ts";
import type { Nvml } from "./library.ts";
import type { FieldReader } from "./power.ts";

const KIB = 1024;
/** NVLink counters of all links of the GPU together. */
const ALL_LINKS = 0xffff_ffff;
const AGGREGATE = 1;

const PCIE = { pcie_transmit: FIELD_ID.pcieTransmitBytes, pcie_receive: FIELD_ID.pcieReceiveBytes };
const NVLINK = { nvlink_transmit: FIELD_ID.nvlinkTransmitKib, nvlink_receive: FIELD_ID.nvlinkReceiveKib };
const DIRECTIONS = {
  pcie_transmit: "pcieTransmit",
  pcie_receive: "pcieReceive",
  nvlink_transmit: "nvlinkTransmit",
  nvlink_receive: "nvlinkReceive",
} as const;

/** Totals of each device since the reader opened. */
export class CounterReader {
  readonly #cell = new Cell(WORD);
  readonly #fields: FieldReader;
  readonly #last = new WeakMap<Device, Map<string, number>>();
  readonly #totals = new WeakMap<Device, Record<string, number>>();
  absurd = 0;

  constructor(fields: FieldReader) {
    this.#fields = fields;
  }

  /** Reads ECC totals and byte counters of a board. */
  read(nvml: Nvml, device: Device, draft: Draft): void {
    this.#readEcc(nvml, device, draft);
    const counters = [
      ...this.#fields.read(nvml, device, PCIE),
      ...[...this.#fields.read(nvml, device, NVLINK, ALL_LINKS)].map(
        ([name, kib]) => [name, kib * KIB] as const,
      ),
    ];
    const last = this.#last.get(device) ?? new Map<string, number>();
    this.#last.set(device, last);
    for (const [name, bytes] of counters) {
      const before = last.get(name);
      last.set(name, bytes);
      this.#addBytes(
        device,
        DIRECTIONS[name as keyof typeof DIRECTIONS],
        Math.max(0, bytes - (before ?? bytes)),
      );
    }
    const totals = this.#totals.get(device);
    if (totals !== undefined) draft.trafficBytes = { ...totals };
  }

  /** Whether GPM has to stand in for a byte counter this GPU does not have. */
  needsRates(device: Device): boolean {
    return Object.keys(DIRECTIONS).some((name) => device.unsupported.has(name));
  }

  /** Adds a GPM window's bytes for the directions that have no counter. */
  addWindow(device: Device, traffic: Traffic): void {
    for (const [name, direction] of Object.entries(DIRECTIONS)) {
      const bytes = traffic[direction];
      if (bytes !== undefined && device.unsupported.has(name)) this.#addBytes(device, direction, bytes);
    }
  }

  #addBytes(device: Device, direction: string, bytes: number): void {
    const totals = this.#totals.get(device) ?? {};
    totals[direction] = (totals[direction] ?? 0) + bytes;
    this.#totals.set(device, totals);
  }

  #readEcc(nvml: Nvml, device: Device, draft: Draft): void {
    const corrected = this.#ecc(nvml, device, "ecc_corrected", 0);
    const uncorrected = this.#ecc(nvml, device, "ecc_uncorrected", 1);
    if (corrected === undefined && uncorrected === undefined) return;
    draft.eccErrors = {
      ...(corrected === undefined ? {} : { corrected }),
      ...(uncorrected === undefined ? {} : { uncorrected }),
    };
  }

  #ecc(nvml: Nvml, device: Device, capability: string, type: number): number | undefined {
    if (!device.can(capability)) return undefined;
    const cell = this.#cell.fresh();
    const code = nvml.call("nvmlDeviceGetTotalEccErrors", device.handle, type, AGGREGATE, cell);
    if (device.judge(nvml, capability, "nvmlDeviceGetTotalEccErrors", code) !== "ok") return undefined;
    const errors = this.#cell.u64();
    if (errors === undefined) this.absurd++;
    return errors;
  }
}
