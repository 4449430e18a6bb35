// A simulated host that runs in real time: vLLM servers, each on a GPU of its own, whose pages are slow, cached by one keeper
// or by two, and of short requests, with the times of requests as the engine has them and without. What pages and nvidia-smi
// show is computed at the instant they are asked, so that the truth is what was shown, however late the machine is.
import { once } from "node:events";
import { renameSync, writeFileSync } from "node:fs";
import type { Server, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { World } from "../../fakes/nvidia-smi-world.ts";
import { Random } from "../../simulator/random.ts";
import type { Counters, Engine, EngineTruth, GpuTruth, Host, Request } from "../../simulator/world.ts";
import { simulate } from "../../simulator/world.ts";

/**
 * Seconds of the world. Work begins while the daemon still learns the habits of pages and requests; from `measured` on it is
 * judged. After `load` no burst begins, and at `end` the cached page has shown the end of the last one.
 */
export const seconds = { work: 3, measured: 22, load: 68, end: 82 } as const;
/** One round in ten does not come, and none for 2 s of 20. */
const missed = { share: 0.1, silence: { everyMs: 20_000, ms: 2000 } } as const;
/** What a front end adds to the duration of a request. */
const frontEndSeconds = 0.003;
/** Length of the world. */
const lengthSeconds = 120;

/** How a page is read: from asking to the answer, and how old it gets. */
interface PageHabit {
  readonly answerMs: number;
  readonly refreshMs: number;
  /** So many keep a copy, refreshed one after the other, and answer in turn. */
  readonly keepers?: number;
  /** It has histograms of how long requests took. */
  readonly isTimed: boolean;
}

/** The servers by name, GPU by GPU. */
export const habits: Readonly<Record<string, PageHabit>> = {
  slow: { answerMs: 3000, refreshMs: 0, isTimed: true },
  cached: { answerMs: 0, refreshMs: 10_000, isTimed: true },
  short: { answerMs: 0, refreshMs: 0, isTimed: true },
  bare: { answerMs: 0, refreshMs: 0, isTimed: false },
  copied: { answerMs: 0, refreshMs: 7000, isTimed: true },
  twice: { answerMs: 0, refreshMs: 7000, keepers: 2, isTimed: true },
};

/** Long requests that a cached page shows in flight, then several at once and a pause, again and again. */
function pulses(random: Random): Request[] {
  const requests: Request[] = Array.from({ length: 8 }, (_, index) => ({
    at: seconds.work * 1000 + index,
    inputTokens: random.whole(200, 600),
    outputTokens: 1000,
  }));
  for (let at = seconds.measured + 2; at < seconds.load; at += random.between(11, 15)) {
    const size = random.whole(16, 32);
    for (let index = 0; index < size; index++)
      requests.push({
        at: Math.round(at * 1000) + index * 3,
        inputTokens: random.whole(200, 600),
        outputTokens: random.whole(300, 600),
      });
  }
  return requests.sort((left, right) => left.at - right.at);
}

/** Four requests of 45 ms a second, by chance: what comes at fixed intervals would meet all polls or none. */
function shorts(random: Random): Request[] {
  const requests: Request[] = [];
  for (let at = seconds.work + random.wait(0.25); at < seconds.load; at += random.wait(0.25))
    requests.push({ at: Math.round(at * 1000), inputTokens: random.whole(250, 350), outputTokens: 4 });
  return requests;
}

function engine(id: string, gpu: number, requests: readonly Request[], more: Partial<Engine>): Engine {
  return {
    id,
    ranks: [{ gpus: [gpu], role: "combined", pids: [7001 + gpu] }],
    from: 0,
    batchMax: 64,
    prefillPerMs: 40,
    prefillChunk: 8192,
    stepMs: 9,
    stepPerRequestMs: 0.06,
    hostMs: 0,
    prefillWatts: 450,
    decodeWatts: 280,
    requests,
    ...more,
  };
}

function hostOf(seed: number): Host {
  const random = new Random(seed);
  const guard = { prefillPerMs: 15, stepMs: 7, stepPerRequestMs: 0.1, hostMs: 1, decodeWatts: 220 };
  return {
    milliseconds: lengthSeconds * 1000,
    gpus: Object.keys(habits).map(() => ({ floorWatts: 118, freeWatts: 73 })),
    engines: [
      engine("slow", 0, pulses(random), {}),
      engine("cached", 1, pulses(random), { stepMs: 12 }),
      engine("short", 2, shorts(random), guard),
      engine("bare", 3, shorts(random), guard),
      engine("copied", 4, pulses(random), {}),
      engine("twice", 5, pulses(random), { stepMs: 12 }),
    ],
    jobs: [],
  };
}

/** When a world began, for its tools as well. */
export class WorldClock {
  readonly file: string;
  #begun: bigint | undefined;

  constructor(folder: string) {
    this.file = join(folder, "begun");
  }

  /** Begins the world now. */
  begin(): void {
    this.#begun = process.hrtime.bigint();
    writeFileSync(`${this.file}.new`, String(this.#begun));
    renameSync(`${this.file}.new`, this.file);
  }

  /** Milliseconds of the world now; below 0 before it began. */
  now(): number {
    return this.#begun === undefined ? -1 : Number(process.hrtime.bigint() - this.#begun) / 1e6;
  }
}

/** Its tool, its pages, and what really happened. */
export class LiveHost {
  readonly host: Host;
  readonly engines: readonly EngineTruth[];
  readonly gpus: readonly GpuTruth[];
  readonly uuids = Object.keys(habits).map((_, gpu) => `GPU-0000000${gpu}-3333-4333-8333-333333333333`);
  /** The program to set as nvidia-smi, and one that misses rounds. */
  readonly smi: string;
  readonly smiMissing: string;
  readonly #clock: WorldClock;
  readonly #servers: Server[] = [];
  #answers = 0;

  constructor(folder: string, seed: number) {
    this.host = hostOf(seed);
    const { engines, gpus } = simulate(this.host);
    [this.engines, this.gpus] = [engines, gpus];
    this.#clock = new WorldClock(folder);
    const world: World = { host: this.host, uuids: this.uuids, beginFile: this.#clock.file };
    const names = this.uuids.map(() => "VLLM::EngineCore");
    this.smi = writeTool(folder, "nvidia-smi", world, names);
    this.smiMissing = writeTool(folder, "nvidia-smi-missing", { ...world, missed }, names);
  }

  /** Serves the pages; returns their addresses by server. */
  async serve(): Promise<Readonly<Record<string, string>>> {
    const addresses: Record<string, string> = {};
    for (const [index, [id, habit]] of Object.entries(habits).entries()) {
      const server = createServer((_, response) => void this.#answer(index, habit, response));
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      this.#servers.push(server);
      addresses[id] = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
    }
    return addresses;
  }

  /** Begins the world now. */
  begin(): void {
    this.#clock.begin();
  }

  /** Milliseconds of the world now; below 0 before it began. */
  now(): number {
    return this.#clock.now();
  }

  close(): void {
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
  }

  /** Half of the time passes before the page is made, half of it while it is sent. */
  async #answer(index: number, habit: PageHabit, response: ServerResponse): Promise<void> {
    const { answerMs, keepers = 1, refreshMs } = habit;
    const half = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, answerMs / 2));
    if (answerMs > 0) await half();
    const now = this.now();
    const phase = ((this.#answers++ % keepers) * refreshMs) / keepers;
    const shown = refreshMs > 0 ? Math.floor((now - phase) / refreshMs) * refreshMs + phase : now;
    const page = pageOf(this.engines[index] as EngineTruth, habit, Math.max(0, Math.floor(shown)));
    if (answerMs > 0) await half();
    response.writeHead(200, { "content-type": "text/plain; version=0.0.4" }).end(page);
  }
}

/** What an engine's counters had come to at a millisecond. */
export function countersAt({ counters }: Pick<EngineTruth, "counters">, ms: number): Counters {
  return counters.findLast(({ at }) => at <= ms) ?? (counters[0] as Counters);
}

/** Writes a tool that shows a world, with a process of a name on each GPU; returns its path. */
export function writeTool(folder: string, name: string, world: World, names: readonly string[]): string {
  const [file, path] = [join(folder, `${name}.json`), join(folder, name)];
  writeFileSync(file, JSON.stringify(world));
  const rows = world.uuids.map((uuid) => `${uuid}, 0, 0, 40000, 118, 118, 118, 50, 49\n`);
  writeFileSync(`${path}-rows.csv`, rows.join(""));
  const apps = world.uuids.map((uuid, gpu) => `${uuid}, ${7001 + gpu}, 40000, ${names[gpu]}\n`);
  writeFileSync(`${path}-apps.csv`, apps.join(""));
  const tool = fileURLToPath(new URL("../../fakes/nvidia-smi", import.meta.url));
  const environment = `FAKE_ROWS='${path}-rows.csv' FAKE_APPS='${path}-apps.csv' FAKE_WORLD='${file}' FAKE_NODE='${process.execPath}'`;
  writeFileSync(path, `#!/bin/sh\nexport ${environment}\nexec '${tool}' "$@"\n`, { mode: 0o755 });
  return path;
}

function pageOf(truth: EngineTruth, { isTimed }: PageHabit, ms: number): string {
  const counters = countersAt(truth, ms);
  const running = ms < 0 ? 0 : (truth.running[0]?.[ms] ?? 0);
  const waiting = ms < 0 ? 0 : (truth.waiting[ms] ?? 0);
  const labels = `engine="0",model_name="${truth.id}"`;
  const family = (name: string, type: string, value: number, more = ""): string =>
    `# TYPE vllm:${name} ${type}\nvllm:${name}${type === "counter" ? "_total" : ""}{${labels}${more}} ${value.toFixed(1)}\n`;
  return [
    ...(isTimed ? timesOf(counters, labels) : []),
    "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1800000000.0\n",
    family("prompt_tokens", "counter", counters.input),
    family("generation_tokens", "counter", counters.output),
    family("request_success", "counter", counters.finished, ',finished_reason="stop"'),
    family("num_requests_running", "gauge", running),
    family("num_requests_waiting", "gauge", waiting),
  ].join("");
}

/** How long requests took, as vLLM has it: each when it ended, its first token when it came. */
function timesOf(counters: Counters, labels: string): string[] {
  const {
    decodeSeconds,
    durationSeconds,
    finished,
    firstTokenSeconds,
    firstTokens,
    prefillSeconds,
    queueSeconds,
  } = counters;
  const histogram = (name: string, count: number, sum: number): string =>
    `# TYPE vllm:${name} histogram\n${[1, 10].map((bound) => `vllm:${name}_bucket{le="${bound}.0",${labels}} ${count}.0\n`).join("")}vllm:${name}_bucket{le="+Inf",${labels}} ${count}.0\nvllm:${name}_count{${labels}} ${count}.0\nvllm:${name}_sum{${labels}} ${sum}\n`;
  return [
    histogram("e2e_request_latency_seconds", finished, durationSeconds + frontEndSeconds * finished),
    histogram("time_to_first_token_seconds", firstTokens, firstTokenSeconds + frontEndSeconds * firstTokens),
    histogram("request_queue_time_seconds", finished, queueSeconds),
    histogram("request_inference_time_seconds", finished, prefillSeconds + decodeSeconds),
    histogram("request_prefill_time_seconds", finished, prefillSeconds),
    histogram("request_decode_time_seconds", finished, decodeSeconds),
  ];
}
