// The driver's own histories: utilisation (about 5 windows of 200 ms a second, each the exact busy share of its window)
// and board power (about 50 values a second). One call a second replaces fast polling at a tenth of its cost.
// The ring holds 71 and 119 samples on driver 580; empty (NOT_FOUND) while no process holds the GPU.
import { CODE } from "../codes.ts";
import type { Draft } from "../protocol.ts";
import type { Device, Outcome } from "./device.ts";
import type { DriverClock, Now } from "./driver-clock.ts";
import { readClocks } from "./driver-clock.ts";
import { Cell, decodeValue, RING, SAMPLE, UTILIZATION, WORD } from "./layouts.ts";
import type { Nvml } from "./library.ts";

const SAMPLES_MAX = 4096;
const POWER_MILLIWATTS_MAX = 20_000_000;
/** With nothing in the ring for this long, an idle snapshot stands for the time passed. */
const EMPTY_NANOS = 600_000_000;
/** After this many empty answers the stamp we ask from is forgotten: a clock set back must not silence the ring. */
const QUIET_MAX = 30;
/** A recognised driver clock never runs ahead of ours by more. */
const AHEAD_MICROS = 1_000_000;
const NONE = new Float64Array(0);

/** Reads both rings of one GPU after another into the same buffers. */
export class RingReader {
  #samples = new Cell(2 * 256 * SAMPLE.size);
  readonly #type = new Cell(WORD);
  readonly #count = new Cell(WORD);
  readonly #utilization = new Cell(UTILIZATION.size);
  /** Samples dropped as out of range. */
  absurd = 0;

  /** Utilisation snapshot and ring, then the power ring. */
  read(nvml: Nvml, device: Device, draft: Draft): void {
    this.#readSnapshot(nvml, device, draft);
    this.#readUtilization(nvml, device, draft);
    const powers = this.#readRing(
      nvml,
      device,
      "power_ring",
      RING.power,
      "power",
      device.powerClock,
      (value) => (value <= POWER_MILLIWATTS_MAX ? value / 1000 : undefined),
    );
    if (powers.points.length > 0) draft.powerRing = powers.points;
  }

  #readSnapshot(nvml: Nvml, device: Device, draft: Draft): void {
    if (!device.can("utilization")) return;
    const cell = this.#utilization.fresh();
    const code = nvml.call("nvmlDeviceGetUtilizationRates", device.handle, cell);
    if (device.judge(nvml, "utilization", "nvmlDeviceGetUtilizationRates", code) !== "ok") return;
    const busy = percent(cell.u32(UTILIZATION.gpu));
    const memory = percent(cell.u32(UTILIZATION.memory));
    if (busy === undefined || memory === undefined) this.absurd++;
    if (busy !== undefined) draft.utilizationRatio = busy;
    if (memory !== undefined) draft.memoryBusyRatio = memory;
  }

  #readUtilization(nvml: Nvml, device: Device, draft: Draft): void {
    const ring = this.#readRing(
      nvml,
      device,
      "utilization_ring",
      RING.utilization,
      "utilization",
      device.utilizationClock,
      percent,
    );
    if (ring.points.length > 0) {
      draft.utilizationRing = ring.points;
      return;
    }
    // Idle: the ring is empty while the snapshot says 0. That is a measurement, not a gap.
    const now = readClocks().monotonicNanos;
    const quiet = now - device.taken.utilization > EMPTY_NANOS;
    if (ring.outcome === "empty" && draft.utilizationRatio === 0 && quiet) {
      draft.utilizationRing = Float64Array.of(now, 0);
    }
  }

  #readRing(
    nvml: Nvml,
    device: Device,
    capability: string,
    type: number,
    seen: "utilization" | "power",
    clock: DriverClock,
    convert: (value: number) => number | undefined,
  ): { outcome: Outcome; points: Float64Array } {
    if (!device.can(capability)) return { outcome: "absent", points: NONE };
    const code = this.#fetch(nvml, device, type, device.lastSeen[seen]);
    const outcome = device.judge(nvml, capability, "nvmlDeviceGetSamples", code);
    const now = readClocks();
    const points = outcome === "ok" ? this.#decode(device.lastSeen[seen], now, convert) : NONE;
    const newest = points.at(-2);
    if (newest === undefined) {
      if (++device.quiet[seen] % QUIET_MAX === 0) device.lastSeen[seen] = 0;
      return { outcome: outcome === "ok" ? "empty" : outcome, points };
    }
    clock.observe(newest, now);
    device.lastSeen[seen] = newest;
    device.quiet[seen] = 0;
    const placed = place(points, clock, now, device.taken[seen]);
    device.taken[seen] = placed.at(-2) ?? device.taken[seen];
    return { outcome: "ok", points: placed };
  }

  /** Asks for every sample after `after`; grows the buffer when the driver says it is too small. */
  #fetch(nvml: Nvml, device: Device, type: number, after: number): number {
    for (let attempt = 0; ; attempt++) {
      // Half of the room: rows of twice our size would still fit.
      const room = this.#samples.bytes.length / SAMPLE.size / 2;
      this.#samples.bytes.fill(0);
      this.#count.setU32(0, room);
      this.#type.fresh();
      const code = nvml.call(
        "nvmlDeviceGetSamples",
        device.handle,
        type,
        after,
        this.#type,
        this.#count,
        this.#samples,
      );
      if (code !== CODE.insufficientSize || attempt === 3 || room >= SAMPLES_MAX) return code;
      const wanted = Math.min(SAMPLES_MAX, Math.max(this.#count.u32(), room) * 2);
      this.#samples = new Cell(2 * wanted * SAMPLE.size);
    }
  }

  /** Samples newer than `after` in order of time, as [stamp, value, ...]; zero stamps and absurd values are dropped. */
  #decode(after: number, now: Now, convert: (value: number) => number | undefined): Float64Array {
    const count = Math.min(this.#count.u32(), this.#samples.bytes.length / SAMPLE.size / 2);
    const type = this.#type.u32();
    const found = new Float64Array(2 * count);
    let length = 0;
    let isInOrder = true;
    for (let offset = 0; offset < count * SAMPLE.size; offset += SAMPLE.size) {
      const stamp = this.#samples.u64(offset + SAMPLE.at);
      if (stamp === 0 || (stamp !== undefined && stamp <= after)) continue;
      const raw = decodeValue(this.#samples.view, offset + SAMPLE.value, type);
      const value = raw === undefined || raw < 0 ? undefined : convert(raw);
      if (stamp === undefined || value === undefined || stamp > now.unixMicros + AHEAD_MICROS) {
        this.absurd++;
        continue;
      }
      isInOrder &&= length === 0 || (found[length - 2] as number) <= stamp;
      found[length++] = stamp;
      found[length++] = value;
    }
    const points = found.subarray(0, length);
    return isInOrder ? points : sorted(points);
  }
}

/** Points as [stamp, value, ...] by rising stamp: drivers give them so, which none of them promises. */
function sorted(points: Float64Array): Float64Array {
  const places = Array.from({ length: points.length / 2 }, (_, place) => 2 * place);
  places.sort((left, right) => (points[left] as number) - (points[right] as number));
  return Float64Array.from(places.flatMap((at) => [points[at] as number, points[at + 1] as number]));
}

/** Points on our clock as [at, value, ...], those at or before `after` left out; `points` is written over. */
function place(points: Float64Array, clock: DriverClock, now: Now, after: number): Float64Array {
  let length = 0;
  for (let place = 0; place < points.length; place += 2) {
    const at = clock.nanos(points[place] as number, now);
    if (at <= after) continue;
    points[length++] = at;
    points[length++] = points[place + 1] as number;
  }
  // A copy: what is said of a part of a buffer must not carry the rest of it.
  return points.slice(0, length);
}

function percent(value: number): number | undefined {
  return value >= 0 && value <= 100 ? value / 100 : undefined;
}
