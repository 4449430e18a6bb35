// Writes a format 2 recording (METERING.md 10) from readings as they come. Identifiers are masked unless `mask` is false:
// UUIDs, tenants, endpoints, models and epochs become numbered names, the same name for the same thing throughout.

import { once } from "node:events";
import type { WriteStream } from "node:fs";
import { createWriteStream, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Gap, GpuInfo, GpuSample, Nanos, ServerInfo, TokenSample } from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import type { JsonLine } from "./files.ts";
import { gpuLine, pollLine } from "./lines.ts";

/** A recording being written. */
export class Recorder {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #mask: Mask;
  readonly #started: Nanos;
  readonly #gpuMs: number;
  readonly #files = new Map<string, WriteStream>();
  readonly #gpus = new Map<string, GpuInfo>();
  readonly #servers = new Map<string, ServerInfo>();
  #problem: Error | undefined;
  lines = 0;

  /** Creates the folder; throws when it cannot, or when a recording is there already. */
  constructor(folder: string, clock: Clock, options: { readonly mask: boolean; readonly gpuMs: number }) {
    this.#folder = folder;
    this.#clock = clock;
    this.#mask = new Mask(options.mask);
    this.#gpuMs = options.gpuMs;
    this.#started = clock.now();
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "recording.json"), "{}\n", { flag: "wx" });
  }

  /** Takes GPUs in; the first line of a GPU's file describes it. */
  addGpus(infos: readonly GpuInfo[]): void {
    for (const info of infos) {
      if (this.#gpus.has(info.uuid)) continue;
      this.#gpus.set(info.uuid, info);
      this.#write(this.#gpuFile(info.uuid), { kind: "device", ...this.#device(info) });
    }
  }

  addServer(info: ServerInfo): void {
    this.#servers.set(info.id, info);
  }

  acceptGpu(sample: GpuSample): void {
    if (!this.#gpus.has(sample.gpu)) return;
    const line = gpuLine(sample, this.#seconds);
    this.#write(this.#gpuFile(sample.gpu), {
      ...line,
      energy_epoch: this.#mask.of("epoch", sample.energyEpoch),
    });
  }

  acceptPoll(sample: TokenSample): void {
    this.#write(serverFile(sample.server), pollLine(this.#mask.sample(sample), this.#seconds));
  }

  acceptGap(gap: Gap): void {
    const [kind, id] = [
      gap.source.slice(0, gap.source.indexOf(":")),
      gap.source.slice(gap.source.indexOf(":") + 1),
    ];
    const file = kind === "server" ? serverFile(id) : this.#gpus.has(id) ? this.#gpuFile(id) : undefined;
    // A reason may hold addresses and paths: masked recordings keep that there was a gap.
    if (file !== undefined)
      this.#write(file, { t: this.#seconds(gap.at), error: this.#mask.on ? "gap" : gap.reason });
  }

  /** Writes recording.json and closes all files. Throws the first problem any of them had. */
  async close(): Promise<void> {
    const recording = {
      format: 2,
      start_unix: this.#seconds(this.#started),
      gpu_poll_ms: this.#gpuMs,
      gpus: [...this.#gpus.values()].map((info) => this.#device(info)),
      servers: [...this.#servers.values()].map((info) => ({
        id: info.id,
        type: info.type,
        family: info.family,
        poll_ms: info.pollMs,
        pids: info.pids,
        gpus: info.gpus?.map((uuid) => this.#mask.uuid(uuid)),
      })),
    };
    for (const file of this.#files.values()) {
      file.end();
      if (!file.closed) await once(file, "close").catch((error: Error) => this.#keepProblem(error));
    }
    if (this.#problem !== undefined) throw this.#problem;
    writeFileSync(join(this.#folder, "recording.json"), `${JSON.stringify(recording, undefined, 2)}\n`);
  }

  #device(info: GpuInfo): JsonLine {
    return {
      uuid: this.#mask.uuid(info.uuid),
      name: info.name,
      parent: info.parent === undefined ? undefined : this.#mask.uuid(info.parent),
      weight: info.weight,
      power_limit_mw:
        info.powerLimitWatts === undefined ? undefined : Math.round(info.powerLimitWatts * 1000),
      memory_total_bytes: info.memoryTotalBytes,
      driver: info.driverVersion,
    };
  }

  #gpuFile(uuid: string): string {
    return `gpu-${[...this.#gpus.keys()].indexOf(uuid)}.jsonl`;
  }

  #write(file: string, line: JsonLine): void {
    this.lines++;
    this.#file(file).write(`${JSON.stringify(line)}\n`);
  }

  #file(name: string): WriteStream {
    const open = this.#files.get(name);
    if (open !== undefined) return open;
    const stream = createWriteStream(join(this.#folder, name));
    stream.on("error", (error) => this.#keepProblem(error));
    this.#files.set(name, stream);
    return stream;
  }

  #keepProblem(error: Error): void {
    this.#problem ??= error;
  }

  readonly #seconds = (at: Nanos): number => Number(this.#clock.unixNanos(at) / 1000n) / 1e6;
}

function serverFile(id: string): string {
  return `server-${id.replaceAll(/[^A-Za-z0-9_.-]/g, "_")}.jsonl`;
}

/** Numbered names for identifiers. */
class Mask {
  readonly on: boolean;
  readonly #names = new Map<string, string>();
  readonly #counts = new Map<string, number>();

  constructor(on: boolean) {
    this.on = on;
  }

  of(kind: string, value: string | undefined): string | undefined {
    if (!this.on || value === undefined) return value;
    const key = `${kind} ${value}`;
    const known = this.#names.get(key);
    if (known !== undefined) return known;
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    this.#names.set(key, `${kind}-${count}`);
    return `${kind}-${count}`;
  }

  uuid(value: string): string {
    if (!this.on) return value;
    const prefix = value.startsWith("MIG-") ? "MIG" : "GPU";
    const number = (this.of(prefix, value) ?? "").slice(4).padStart(8, "0");
    return `${prefix}-${number}-0000-4000-8000-000000000000`;
  }

  sample(sample: TokenSample): TokenSample {
    if (!this.on) return sample;
    const { gpus, completeEpoch, ...rest } = sample;
    return {
      ...rest,
      errors: sample.errors.map(() => "error"),
      ...(gpus === undefined ? {} : { gpus: gpus.map((uuid) => this.uuid(uuid)) }),
      ...optional("completeEpoch", this.of("epoch", completeEpoch)),
      readings: sample.readings.map(({ model, tenant, endpoint, epoch, ...reading }) => ({
        ...reading,
        ...optional("model", this.of("model", model)),
        ...optional("tenant", this.of("tenant", tenant)),
        ...optional("endpoint", this.of("endpoint", endpoint)),
        ...optional("epoch", this.of("epoch", epoch)),
      })),
    };
  }
}

function optional<Key extends string>(key: Key, value: string | undefined): { readonly [K in Key]?: string } {
  return (value === undefined ? {} : { [key]: value }) as { readonly [K in Key]?: string };
}
