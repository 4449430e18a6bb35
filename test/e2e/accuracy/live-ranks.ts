// A vLLM server of three data-parallel ranks that runs in real time: each on a GPU of its own, in the reverse order of the GPUs, the
// last rank without any request. One page shows all of them; nvidia-smi names the processes after their ranks, or not.
import { once } from "node:events";
import type { Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Random } from "../../simulator/random.ts";
import type { EngineTruth, Host, Request } from "../../simulator/world.ts";
import { simulate } from "../../simulator/world.ts";
import { countersAt, WorldClock, writeTool } from "./live-host.ts";

/** Seconds of the world: when requests begin and end, and for how long it is judged. */
export const seconds = { work: 3, load: 200, judged: 62 } as const;
/** How many ranks there are. */
export const rankCount = 3;
const lengthSeconds = 220;

/** The GPU of a rank. */
export function gpuOf(rank: number): number {
  return rankCount - 1 - rank;
}

/** Some requests at once and a pause, at other times for each rank that has any. */
function requestsOf(random: Random): Request[] {
  const requests: Request[] = [];
  for (const rank of [0, 1])
    for (let at = seconds.work + 4 * rank; at < seconds.load; at += random.between(8, 12))
      for (let index = random.whole(2, 6); index > 0; index--) {
        const output = rank === 0 ? random.whole(300, 500) : random.whole(60, 200);
        requests.push({
          ...{ at: Math.round(at * 1000) + index * 3, rank, outputTokens: output },
          inputTokens: random.whole(200, 600),
        });
      }
  return requests.sort((left, right) => left.at - right.at);
}

/** Its tools, its page, and what really happened. */
export class LiveRanks extends WorldClock {
  readonly host: Host;
  readonly truth: EngineTruth;
  readonly uuids = Array.from(
    { length: rankCount },
    (_, gpu) => `GPU-0000000${gpu}-4444-4444-8444-444444444444`,
  );
  /** nvidia-smi whose processes have the names of their ranks, and names that say nothing. */
  readonly smi: { readonly named: string; readonly nameless: string };
  #server: Server | undefined;

  constructor(folder: string, seed: number) {
    super(folder);
    const gpus = Array.from({ length: rankCount }, (_, gpu) => gpu);
    this.host = {
      milliseconds: lengthSeconds * 1000,
      gpus: gpus.map(() => ({ floorWatts: 118, freeWatts: 73 })),
      engines: [
        {
          ...{ id: "ranks", from: 0, batchMax: 64, prefillPerMs: 40, prefillChunk: 8192 },
          ...{ stepMs: 9, stepPerRequestMs: 0.06, hostMs: 0, prefillWatts: 450, decodeWatts: 280 },
          ranks: gpus.map((rank) => ({
            ...{ gpus: [gpuOf(rank)], role: "combined" },
            pids: [7001 + gpuOf(rank)],
          })),
          requests: requestsOf(new Random(seed)),
        },
      ],
      jobs: [],
    };
    this.truth = simulate(this.host).engines[0] as EngineTruth;
    const world = { host: this.host, uuids: this.uuids, beginFile: this.file };
    this.smi = {
      named: writeTool(
        folder,
        "nvidia-smi-named",
        world,
        gpus.map((gpu) => `VLLM::EngineCore_DP${gpuOf(gpu)}`),
      ),
      nameless: writeTool(
        folder,
        "nvidia-smi-nameless",
        world,
        gpus.map(() => "python3"),
      ),
    };
  }

  /** Serves the page; returns its address. */
  async serve(): Promise<string> {
    const server = createServer((_, response) => {
      const page = pageOf(this.truth, Math.floor(this.now()));
      response.writeHead(200, { "content-type": "text/plain; version=0.0.4" }).end(page);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    this.#server = server;
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
  }

  close(): void {
    this.#server?.close();
    this.#server?.closeAllConnections();
  }
}

function pageOf(truth: EngineTruth, ms: number): string {
  const family = (name: string, type: "counter" | "gauge", amountOf: (rank: number) => number): string => {
    const full = `vllm:${name}${type === "counter" ? "_total" : ""}`;
    const lines = truth.rankCounters.map(
      (_, rank) => `${full}{engine="${rank}",model_name="${truth.id}"} ${amountOf(rank).toFixed(1)}\n`,
    );
    return `# TYPE vllm:${name} ${type}\n${lines.join("")}`;
  };
  const counted = (rank: number) => countersAt({ counters: truth.rankCounters[rank] ?? [] }, ms);
  return [
    "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1800000000.0\n",
    family("prompt_tokens", "counter", (rank) => counted(rank).input),
    family("generation_tokens", "counter", (rank) => counted(rank).output),
    family("num_requests_running", "gauge", (rank) => (ms < 0 ? 0 : (truth.running[rank]?.[ms] ?? 0))),
    family("num_requests_waiting", "gauge", () => 0),
  ].join("");
}
