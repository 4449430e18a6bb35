// The readings of the last minute, kept so that a broken accounting law can be looked into afterwards (METERING.md 4).
// An interval may wait 30 s to be settled, so a minute holds at least the 30 s before it. Bounded by time, count and
// bytes; a recording is written only when a law breaks, at most one a minute and 20 in all.
// Readings are kept as the text that would be written, compressed: as objects they take many times the memory and live just
// long enough for the collector to move every one of them to the old generation.
import { readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Gap, GpuInfo, GpuSample, Nanos, ServerInfo, SettledInterval, TokenSample } from "../model.ts";
import { makeFolder, writePrivateFile } from "../store/private-files.ts";
import type { Placed } from "./last-texts.ts";
import { LastTexts } from "./last-texts.ts";

const KEPT_NANOS = 60e9;
const READINGS_MAX = 20_000;
/** Text of readings kept, and at most in a file. */
const BYTES_MAX = 4 * 1024 * 1024;
const FILES_MAX = 20;
const FILE_EVERY_NANOS = 60e9;

/** Any input of the correlator, as it came in. */
export type Recorded =
  | { readonly kind: "gpu"; readonly sample: GpuSample }
  | { readonly kind: "tokens"; readonly sample: TokenSample; readonly readingsLeftOut?: number }
  | { readonly kind: "gap"; readonly gap: Gap };

/**
 * What of a server's sample a broken law can be looked into with: no law is about latencies, and none about the label sets
 * of a gateway, of which there may be thousands at every poll.
 */
export function recordedTokens(sample: TokenSample): Recorded {
  if (sample.family === "gateway")
    return { kind: "tokens", sample: { ...sample, readings: [] }, readingsLeftOut: sample.readings.length };
  const readings = sample.readings.map(({ latencies: _left, ...reading }) => reading);
  return { kind: "tokens", sample: { ...sample, readings } };
}

/** Bounds of the memory; the defaults are the agent's. */
export interface FlightBounds {
  readonly readingsMax?: number;
  readonly bytesMax?: number;
}

/** What was found broken since the agent started. */
export interface Degraded {
  readonly violations: number;
  readonly last: string;
  /** RFC 3339. */
  readonly at: string;
  /** The same on the agent's clock. */
  readonly instant: Nanos;
  /** The newest recording of the inputs; undefined where nothing can be written. */
  readonly recording: string | undefined;
}

/** A reading and the place of its text. */
interface Entry extends Placed {
  readonly at: Nanos;
}

/** Keeps the last readings and writes them down when a law breaks. */
export class FlightRecorder {
  readonly #folder: string | undefined;
  readonly #readingsMax: number;
  readonly #texts: LastTexts;
  #entries: Entry[] = [];
  /** Entries before this index are gone; they are cut off in large pieces. */
  #gone = 0;
  #degraded: Degraded | undefined;
  #written: Nanos | undefined;

  /** `stateDir` undefined: nothing is written, but violations are still counted. */
  constructor(stateDir: string | undefined, bounds: FlightBounds = {}) {
    this.#folder = stateDir === undefined ? undefined : join(stateDir, "violations");
    this.#readingsMax = bounds.readingsMax ?? READINGS_MAX;
    this.#texts = new LastTexts(bounds.bytesMax ?? BYTES_MAX);
  }

  /** Undefined while no law was broken; stays until the agent restarts, so that it is seen. */
  get degraded(): Degraded | undefined {
    return this.#degraded;
  }

  /** Readings held now. */
  get size(): number {
    return this.#held().length;
  }

  /** Bytes of memory taken for their text. */
  get bytes(): number {
    return this.#texts.size;
  }

  /** Keeps a reading, as long as the bounds allow. */
  keep(recorded: Recorded, at: Nanos): void {
    this.#entries.push({ at, ...this.#texts.append(JSON.stringify(recorded)) });
    while (this.#gone < this.#entries.length && this.#tooMuch(at)) this.#gone++;
    const oldest = this.#entries[this.#gone];
    if (oldest !== undefined) this.#texts.forgetBefore(oldest);
    if (this.#gone < 1024 || this.#gone < this.#entries.length / 2) return;
    this.#entries = this.#entries.slice(this.#gone);
    this.#gone = 0;
  }

  /**
   * Writes what led to a broken interval and returns the file; within a minute of the last one, that one. Undefined
   * where nothing can be written: metering goes on without a recording.
   */
  violated(
    interval: SettledInterval,
    now: { readonly at: Nanos; readonly unixMillis: number },
    known: { readonly gpus: Iterable<GpuInfo>; readonly servers: Iterable<ServerInfo> },
  ): string | undefined {
    const at = new Date(now.unixMillis).toISOString();
    const fresh = this.#written === undefined || now.at - this.#written >= FILE_EVERY_NANOS;
    const recording = fresh ? this.#write(interval, at, known) : this.#degraded?.recording;
    if (fresh) this.#written = now.at;
    this.#degraded = {
      violations: (this.#degraded?.violations ?? 0) + interval.violations.length,
      last: interval.violations.at(-1) ?? "",
      at,
      instant: now.at,
      recording,
    };
    return recording;
  }

  /** Those of the last minute whose text is still there. */
  #held(): readonly Entry[] {
    return this.#entries.slice(this.#gone).filter((entry) => this.#texts.has(entry));
  }

  #tooMuch(at: Nanos): boolean {
    const oldest = this.#entries[this.#gone]?.at ?? at;
    return this.#entries.length - this.#gone > this.#readingsMax || oldest < at - KEPT_NANOS;
  }

  #write(
    interval: SettledInterval,
    at: string,
    known: { readonly gpus: Iterable<GpuInfo>; readonly servers: Iterable<ServerInfo> },
  ): string | undefined {
    if (this.#folder === undefined) return undefined;
    // Increments are left out: the token samples they were made of are in the readings.
    const servers = interval.servers.map(({ increments: _made, ...rest }) => rest);
    const head = {
      at,
      interval: { ...interval, servers },
      gpus: [...known.gpus],
      servers: [...known.servers],
    };
    const texts = [...this.#texts.read(this.#held())];
    const omitted = this.#entries.length - this.#gone - texts.length;
    const text = `${JSON.stringify({ ...head, omitted }).slice(0, -1)},"readings":[\n${texts.join(",\n")}\n]}\n`;
    const file = join(this.#folder, `${at.replaceAll(":", "-")}.json`);
    try {
      makeFolder(this.#folder);
      writePrivateFile(`${file}.new`, text);
      renameSync(`${file}.new`, file);
      this.#removeOldest(this.#folder);
      return file;
    } catch {
      return undefined;
    }
  }

  #removeOldest(folder: string): void {
    const files = readdirSync(folder)
      .filter((name) => name.endsWith(".json"))
      .sort();
    for (const name of files.slice(0, Math.max(0, files.length - FILES_MAX))) rmSync(join(folder, name));
  }
}
