// Energy counter, power and the field values read with them.
// The counter (mJ since driver load, Volta and later) is the dearest call, 3-5 ms: once a second at most.
// Field 185 is a 1 s mean, 186 instantaneous; nvmlDeviceGetPowerUsage is a 1 s mean from Ampere on, except GA100.
import type { Draft } from "../protocol.ts";
import type { Device } from "./device.ts";
import { readClocks } from "./driver-clock.ts";
import { Cell, decodeValue, FIELD, FIELD_ID, WORD } from "./layouts.ts";
import type { Nvml } from "./library.ts";

const WATTS_MAX = 20_000;
/** Scope of a field value: NVML_POWER_SCOPE_MODULE. */
const MODULE = 1;
/** Ids that are counters of nanoseconds on some drivers and 32-bit settings on others. */
const MOVED_COUNTERS: ReadonlySet<number> = new Set([251, 252, 253, 269, 270, 271]);
/** unsigned long, unsigned long long, signed long long of nvmlValueType_t. */
const WIDE_TYPES: ReadonlySet<number> = new Set([2, 3, 4]);

/** A batch of field values of one GPU. `read` returns the value of each id the GPU answered. */
export class FieldReader {
  readonly #cell = new Cell(32 * FIELD.size);

  read(nvml: Nvml, device: Device, ids: Readonly<Record<string, number>>, scope = 0): Map<string, number> {
    const found = new Map<string, number>();
    const wanted = Object.entries(ids).filter(([name]) => device.can(name));
    if (wanted.length === 0 || !device.can("field_values")) return found;
    const cell = this.#cell.fresh(wanted.length * FIELD.size);
    wanted.forEach(([, id], index) => {
      cell.setU32(index * FIELD.size + FIELD.id, id);
      cell.setU32(index * FIELD.size + FIELD.scope, scope);
    });
    const code = nvml.call("nvmlDeviceGetFieldValues", device.handle, wanted.length, cell);
    if (device.judge(nvml, "field_values", "nvmlDeviceGetFieldValues", code) !== "ok") return found;
    wanted.forEach(([name, id], index) => {
      const value = this.#one(nvml, device, name, id, index * FIELD.size);
      if (value !== undefined) found.set(name, value);
    });
    return found;
  }

  #one(nvml: Nvml, device: Device, name: string, id: number, offset: number): number | undefined {
    const own = this.#cell.u32(offset + FIELD.code);
    if (own === 0xffff_ffff || this.#cell.u32(offset + FIELD.id) !== id) return undefined;
    const outcome = device.judge(nvml, name, `nvmlDeviceGetFieldValues field ${id}`, own);
    if (outcome !== "ok") return undefined;
    const type = this.#cell.u32(offset + FIELD.valueType);
    if (MOVED_COUNTERS.has(id) && !WIDE_TYPES.has(type)) {
      device.refuse(name, `nvmlDeviceGetFieldValues field ${id}: a setting on this driver, no counter`);
      return undefined;
    }
    return decodeValue(this.#cell.view, offset + FIELD.value, type);
  }
}

/** Reads energy and power of one board; never of a MIG instance, which has neither. */
export class PowerReader {
  readonly #cell = new Cell(WORD);
  readonly #fields: FieldReader;
  absurd = 0;

  constructor(fields: FieldReader) {
    this.#fields = fields;
  }

  /** Sets `at` to the instant of the energy reading: the counter moves every 100 ms, so instants matter here. */
  read(nvml: Nvml, device: Device, meanPower: boolean, draft: Draft): void {
    this.#readEnergy(nvml, device, draft);
    const fields = this.#fields.read(nvml, device, {
      power_average: FIELD_ID.powerAverage,
      power_instant: FIELD_ID.powerInstant,
    });
    const average = this.#watts(fields.get("power_average"));
    const instant = this.#watts(fields.get("power_instant"));
    if (average !== undefined) draft.powerWatts = average;
    if (instant !== undefined) draft.powerInstantWatts = instant;
    if (average === undefined) this.#readUsage(nvml, device, meanPower, draft);
  }

  /** Power of the module, where the GPU is a part of one: some counters count that (Grace Hopper, zeus#172). */
  readModule(nvml: Nvml, device: Device, draft: Draft): void {
    const fields = this.#fields.read(nvml, device, { module_power: FIELD_ID.powerInstant }, MODULE);
    const watts = this.#watts(fields.get("module_power"));
    if (watts !== undefined && watts > 0) draft.modulePowerWatts = watts;
  }

  #readEnergy(nvml: Nvml, device: Device, draft: Draft): void {
    draft.at = readClocks().monotonicNanos;
    if (!device.can("energy")) return;
    const code = nvml.call("nvmlDeviceGetTotalEnergyConsumption", device.handle, this.#cell.fresh());
    if (device.judge(nvml, "energy", "nvmlDeviceGetTotalEnergyConsumption", code) !== "ok") return;
    draft.at = readClocks().monotonicNanos;
    const energy = this.#cell.u64();
    if (energy === undefined) this.absurd++;
    else draft.energyMillijoules = energy;
  }

  #readUsage(nvml: Nvml, device: Device, meanPower: boolean, draft: Draft): void {
    if (!device.can("power")) return;
    const code = nvml.call("nvmlDeviceGetPowerUsage", device.handle, this.#cell.fresh());
    if (device.judge(nvml, "power", "nvmlDeviceGetPowerUsage", code) !== "ok") return;
    const watts = this.#watts(this.#cell.u32OrAbsent());
    if (watts === undefined) return;
    if (meanPower) draft.powerWatts = watts;
    else draft.powerInstantWatts ??= watts;
  }

  #watts(milliwatts: number | undefined): number | undefined {
    if (milliwatts === undefined) return undefined;
    const watts = milliwatts / 1000;
    if (watts >= 0 && watts <= WATTS_MAX) return watts;
    this.absurd++;
    return undefined;
  }
}

const limitCell = new Cell(WORD);

/** The enforced power limit in watts; undefined where the board has none (DGX Spark). */
export function readPowerLimit(nvml: Nvml, device: Device): number | undefined {
  if (!device.can("power_limit")) return undefined;
  const code = nvml.call("nvmlDeviceGetEnforcedPowerLimit", device.handle, limitCell.fresh());
  if (device.judge(nvml, "power_limit", "nvmlDeviceGetEnforcedPowerLimit", code) !== "ok") return undefined;
  const milliwatts = limitCell.u32OrAbsent();
  return milliwatts === undefined || milliwatts > WATTS_MAX * 1000 ? undefined : milliwatts / 1000;
}
