// What tailing costs: 16 servers with pages of 300 KB scraped every 5 s over HTTP with gzip, and 5,000 pushed OTLP points
// a second, as shares of one core. CPU time of this process alone; the servers run in another.
// Run with `node test/bench/servers.ts`.
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { vllm } from "../../agent/servers/vllm.ts";
import type { PullServerSource } from "../../agent/source.ts";
import { benchOtlpReceive } from "./otlp-receive.ts";

const SERIES = 2600;
const SERVERS = 16;
const POLL_SECONDS = 5;
const POINTS_PER_SECOND = 5000;
const WARM_UP = 6;
const ROUNDS = 12;

/** One line of facts for the bench's report. */
export async function benchServers(): Promise<Readonly<Record<string, number>>> {
  const child = fork(fileURLToPath(new URL("./lib/page-server.ts", import.meta.url)), [String(SERIES)], {
    stdio: ["ignore", "pipe", "inherit", "ipc"],
  });
  const [data] = (await once(child.stdout as NodeJS.ReadableStream, "data")) as [Buffer];
  const endpoint = `127.0.0.1:${data.toString().trim()}`;
  const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
  const sources = Array.from(
    { length: SERVERS },
    (_, index) => vllm.open(vllm.config.parse({ endpoint, id: `s${index}` }), context) as PullServerSource,
  );
  for (let round = 0; round < WARM_UP; round++) for (const source of sources) await source.poll();
  const before = process.cpuUsage();
  for (let round = 0; round < ROUNDS; round++) for (const source of sources) await source.poll();
  const used = process.cpuUsage(before);
  const pollMs = (used.user + used.system) / 1000 / (ROUNDS * SERVERS);
  for (const source of sources) await source.close();
  child.disconnect();
  const scrapeShare = (pollMs * SERVERS) / (POLL_SECONDS * 1000);
  const pushShare = POINTS_PER_SECOND / (benchOtlpReceive()["points_per_s"] as number);
  return {
    poll_cpu_ms: pollMs,
    scrape_core_share: scrapeShare,
    push_core_share: pushShare,
    core_share: scrapeShare + pushShare,
  };
}

if (import.meta.main) console.log(JSON.stringify({ bench: "servers", ...(await benchServers()) }));
