// Readings that change slowly or cost much, taken every few seconds: clocks, temperatures, throttle time.
// Throttle time comes from the ns counters of field values; the instantaneous reason bits say nothing about duration.

import type { Draft } from "../protocol.ts";
import type { Device } from "./device.ts";
import { Cell, FIELD_ID, WORD } from "./layouts.ts";
import type { Nvml } from "./library.ts";
import type { FieldReader } from "./power.ts";

const SM_CLOCK = 1;
const MEMORY_CLOCK = 2;
const MEGAHERTZ_MAX = 20_000;
const NANOS_PER_SECOND = 1e9;

/** Field ids of the cumulative throttle counters, ns, under the reason they are exported with. */
const THROTTLE = {
  throttle_power_cap: FIELD_ID.violationPower,
  throttle_thermal: FIELD_ID.violationThermal,
  throttle_sync_boost: FIELD_ID.violationSync,
  throttle_board_limit: FIELD_ID.violationBoard,
  throttle_low_utilization: FIELD_ID.violationLowUtilization,
  throttle_reliability: FIELD_ID.violationReliability,
  throttle_software_thermal: FIELD_ID.eventSoftwareThermal,
  throttle_hardware_thermal: FIELD_ID.eventHardwareThermal,
  throttle_power_brake: FIELD_ID.eventPowerBrake,
} as const;

/** Reads clocks, temperatures and throttle time of one device after another. */
export class ClockReader {
  readonly #cell = new Cell(WORD);
  readonly #fields: FieldReader;
  absurd = 0;

  constructor(fields: FieldReader) {
    this.#fields = fields;
  }

  read(nvml: Nvml, device: Device, draft: Draft): void {
    const sm = this.#clock(nvml, device, "sm_clock", SM_CLOCK);
    const memory = this.#clock(nvml, device, "memory_clock", MEMORY_CLOCK);
    if (sm !== undefined) draft.smClockHertz = sm;
    if (memory !== undefined) draft.memoryClockHertz = memory;
    this.#readTemperature(nvml, device, draft);
    this.#readFields(nvml, device, draft);
  }

  #clock(nvml: Nvml, device: Device, capability: string, type: number): number | undefined {
    if (!device.can(capability)) return undefined;
    const code = nvml.call("nvmlDeviceGetClockInfo", device.handle, type, this.#cell.fresh().bytes);
    if (device.judge(nvml, capability, "nvmlDeviceGetClockInfo", code) !== "ok") return undefined;
    const megahertz = this.#cell.u32();
    if (megahertz <= MEGAHERTZ_MAX) return megahertz * 1e6;
    this.absurd++;
    return undefined;
  }

  #readTemperature(nvml: Nvml, device: Device, draft: Draft): void {
    if (!device.can("temperature")) return;
    const code = nvml.call("nvmlDeviceGetTemperature", device.handle, 0, this.#cell.fresh().bytes);
    if (device.judge(nvml, "temperature", "nvmlDeviceGetTemperature", code) !== "ok") return;
    const celsius = this.#celsius(this.#cell.u32());
    if (celsius !== undefined) draft.temperatureCelsius = celsius;
  }

  #readFields(nvml: Nvml, device: Device, draft: Draft): void {
    const fields = this.#fields.read(nvml, device, {
      memory_temperature: FIELD_ID.memoryTemperature,
      ...THROTTLE,
    });
    const memory = fields.get("memory_temperature");
    const celsius = memory === undefined ? undefined : this.#celsius(memory);
    if (celsius !== undefined) draft.memoryTemperatureCelsius = celsius;
    const throttle: Record<string, number> = {};
    for (const name of Object.keys(THROTTLE)) {
      const nanos = fields.get(name);
      if (nanos === undefined) continue;
      if (nanos >= 0) throttle[name.slice("throttle_".length)] = nanos / NANOS_PER_SECOND;
      else this.absurd++;
    }
    if (Object.keys(throttle).length > 0) draft.throttleSeconds = throttle;
  }

  #celsius(value: number): number | undefined {
    if (value >= 0 && value <= 200) return value;
    this.absurd++;
    return undefined;
  }
}
