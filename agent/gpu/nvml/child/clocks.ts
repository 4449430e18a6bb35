// Readings that change slowly or cost much, taken every few seconds: clocks, temperatures, throttle time, the power limit
// and the video engines.
// Throttle time comes from the ns counters of field values; the instantaneous reason bits say nothing about duration.
// Three of the counters moved to other ids between drivers, where the old ids now mean settings of power smoothing.

import type { Draft } from "../protocol.ts";
import type { Device } from "./device.ts";
import type { DriverVersion } from "./driver-version.ts";
import { throttleFields } from "./driver-version.ts";
import { Cell, FIELD_ID, WORD } from "./layouts.ts";
import type { Nvml, NvmlCall } from "./library.ts";
import type { FieldReader } from "./power.ts";
import { readPowerLimit } from "./power.ts";

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
} as const;

/** What a GPU is said to lack where the ids of the moved counters are not known. */
const MOVED = "throttle_thermal_and_brake";

/** Reads clocks, temperatures and throttle time of one device after another. */
export class ClockReader {
  readonly #cell = new Cell(WORD);
  readonly #period = new Cell(WORD);
  readonly #fields: FieldReader;
  #throttle: Readonly<Record<string, number>> = THROTTLE;
  /** Why the counters whose ids moved are not asked; undefined where they are. */
  #notAsked: string | undefined;
  absurd = 0;

  constructor(fields: FieldReader) {
    this.#fields = fields;
  }

  /** Chooses the fields of the driver that is read. */
  expect(driver: DriverVersion | undefined): void {
    const moved = throttleFields(driver);
    this.#notAsked = "absent" in moved ? moved.absent : undefined;
    if ("absent" in moved) this.#throttle = THROTTLE;
    else {
      this.#throttle = {
        ...THROTTLE,
        throttle_software_thermal: moved.softwareThermal,
        throttle_hardware_thermal: moved.hardwareThermal,
        throttle_power_brake: moved.powerBrake,
      };
    }
  }

  /** Sets clocks, temperatures and throttle time as far as the GPU says them. */
  read(nvml: Nvml, device: Device, draft: Draft): void {
    const sm = this.#clock(nvml, device, "sm_clock", SM_CLOCK);
    const memory = this.#clock(nvml, device, "memory_clock", MEMORY_CLOCK);
    if (sm !== undefined) draft.smClockHertz = sm;
    if (memory !== undefined) draft.memoryClockHertz = memory;
    const limit = readPowerLimit(nvml, device);
    if (limit !== undefined) draft.powerLimitWatts = limit;
    const encoder = this.#engine(nvml, device, "encoder", "nvmlDeviceGetEncoderUtilization");
    const decoder = this.#engine(nvml, device, "decoder", "nvmlDeviceGetDecoderUtilization");
    if (encoder !== undefined) draft.encoderRatio = encoder;
    if (decoder !== undefined) draft.decoderRatio = decoder;
    this.#readTemperature(nvml, device, draft);
    this.#readFields(nvml, device, draft);
  }

  #clock(nvml: Nvml, device: Device, capability: string, type: number): number | undefined {
    if (!device.can(capability)) return undefined;
    const code = nvml.call("nvmlDeviceGetClockInfo", device.handle, type, this.#cell.fresh());
    if (device.judge(nvml, capability, "nvmlDeviceGetClockInfo", code) !== "ok") return undefined;
    const megahertz = this.#cell.u32();
    if (megahertz <= MEGAHERTZ_MAX) return megahertz * 1e6;
    this.absurd++;
    return undefined;
  }

  #engine(nvml: Nvml, device: Device, capability: string, call: NvmlCall): number | undefined {
    if (!device.can(capability)) return undefined;
    const code = nvml.call(call, device.handle, this.#cell.fresh(), this.#period);
    if (device.judge(nvml, capability, call, code) !== "ok") return undefined;
    const percent = this.#cell.u32();
    if (percent <= 100) return percent / 100;
    this.absurd++;
    return undefined;
  }

  #readTemperature(nvml: Nvml, device: Device, draft: Draft): void {
    if (!device.can("temperature")) return;
    const code = nvml.call("nvmlDeviceGetTemperature", device.handle, 0, this.#cell.fresh());
    if (device.judge(nvml, "temperature", "nvmlDeviceGetTemperature", code) !== "ok") return;
    const celsius = this.#celsius(this.#cell.u32());
    if (celsius !== undefined) draft.temperatureCelsius = celsius;
  }

  #readFields(nvml: Nvml, device: Device, draft: Draft): void {
    if (this.#notAsked !== undefined && !device.unsupported.has(MOVED)) device.refuse(MOVED, this.#notAsked);
    const fields = this.#fields.read(nvml, device, {
      memory_temperature: FIELD_ID.memoryTemperature,
      ...this.#throttle,
    });
    const memory = fields.get("memory_temperature");
    const celsius = memory === undefined ? undefined : this.#celsius(memory);
    if (celsius !== undefined) draft.memoryTemperatureCelsius = celsius;
    const throttle: Record<string, number> = {};
    for (const name of Object.keys(this.#throttle)) {
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
