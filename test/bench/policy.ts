// Rate-limit calls: latency at 1,000 calls a second over one connection while usage of 1,000 tenants is booked, the
// processor time they take, and the memory of 1,000 counters; then the same of a whole agent, whose beats and scrapes are
// in it. Nothing is asserted; the bar is p99 <= 2 ms on half a core and 5 MB. The caller is a process of its own: a Go
// program where it is installed (test/e2e/policy/install.sh), else one of ours, whose own delays are in what it measures.
import type { ChildProcess } from "node:child_process";
import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openChannel } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { PolicyBook } from "../../agent/policy/book.ts";
import type { RlsConfig } from "../../agent/policy/config.ts";
import { serveRateLimits } from "../../agent/policy/rls.ts";
import { answerCall } from "../../agent/policy/rls-answer.ts";
import { decodeRequest, encodeResponse } from "../../agent/policy/rls-wire.ts";
import { MALLOC, NODE_FLAGS } from "../../deploy/pack/runtime.ts";
import { toolsFolder } from "../e2e/tools-folder.ts";
import { fed, gatewaySeries, policyWith } from "../policy/fixtures.ts";
import { encodeCall, shouldRateLimit } from "../policy/rls-calls.ts";

const [SECONDS, PER_SECOND, TENANTS] = [Number(process.env["POLICY_BENCH_SECONDS"] ?? 10), 1000, 1000];
const QUOTAS = [
  { match: { tenant: "*" }, mode: "local", per: "minute", limit: 1e9 },
  { match: { tenant: "t1" }, mode: "shadow", per: "month", limit: 1e9 },
  { count: "requests", per: "day", limit: 1e12, mode: "shadow" },
];
/** How long a caller warms both sides up before it measures. */
const WARM_SECONDS = 2;
const goCaller = join(toolsFolder, "policy-peers");

if (process.argv[2] === "caller") await call(Number(process.argv[3]));
else {
  await answer();
  await answerWholly();
}

/** The answering side alone, with usage booked every second and a beat every ten. */
async function answer(): Promise<void> {
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  const policy = policyWith(QUOTAS, { keysMax: 2000, rls: { listen: "127.0.0.1:0" } });
  const book = new PolicyBook(policy, Date.now());
  const sets = Array.from({ length: TENANTS }, (_, index) => gatewaySeries(`t${index}`));
  const bookAll = (): void => {
    const metric = "tokenwatt.gateway.tokens";
    for (const dimensions of sets)
      book.book({ metric, dimensions, amount: 7, atMillis: Date.now(), own: false });
  };
  const beat = (): void => {
    book.commit(Date.now(), () => fed);
    book.takeRows();
  };
  bookAll();
  beat();
  globalThis.gc?.();
  const heap = (process.memoryUsage().heapUsed - before) / 1e6;
  const parts = { book, config: policy.rls as RlsConfig, aliases: {}, count: () => {} };
  const listener = await serveRateLimits(
    { listen: "127.0.0.1:0" },
    (bytes) => encodeResponse(answerCall(decodeRequest(bytes), Date.now(), parts)),
    silentLog,
  );
  answerAlone(book);
  const timers = [setInterval(bookAll, 1000), setInterval(beat, 10_000)];
  const cpu = process.cpuUsage();
  const measured = await measure(listener.port);
  const { system, user } = process.cpuUsage(cpu);
  for (const timer of timers) clearInterval(timer);
  listener.close();
  print("rate-limit calls", measured, (user + system) / 1e6);
  console.log(`  ${TENANTS} counters: ${heap.toFixed(1)} MB`);
}

/** A whole agent as it is shipped; every tenant has a counter and its series once the calls have come. */
async function answerWholly(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-policy-bench-"));
  const quotas = QUOTAS.map((one, index) => ({ name: `q${index}`, count: "tokens", ...one }));
  const rls = { listen: "127.0.0.1:39467" };
  writeFileSync(join(folder, "policy.yaml"), JSON.stringify({ version: "1", keysMax: 2000, rls, quotas }));
  const config = {
    stateDir: join(folder, "state"),
    policy: "policy.yaml",
    discovery: { enabled: false, kubernetes: "off" },
    series: { tenantsMax: TENANTS },
    export: { prometheus: { listen: "127.0.0.1:0", tenants: true } },
  };
  writeFileSync(join(folder, "config.yaml"), JSON.stringify(config));
  const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
  const args = [...NODE_FLAGS, main, "run", "--config", join(folder, "config.yaml")];
  const agent = spawn(process.execPath, args, {
    env: { ...process.env, ...MALLOC },
    stdio: ["ignore", "ignore", "pipe"],
  });
  await said(agent, "rate-limit calls are answered");
  const before = processorSeconds(agent);
  const measured = await measure(39467);
  print("rate-limit calls of a whole agent", measured, processorSeconds(agent) - before);
  agent.kill();
  await once(agent, "exit");
  rmSync(folder, { recursive: true });
}

/** Waits until a program's log says something; rejects where the program ends before. */
function said(child: ChildProcess, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let log = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      log = (log + chunk).slice(-10_000);
      if (log.includes(event)) resolve();
    });
    child.once("exit", () => reject(new Error(`the agent ended: ${log}`)));
  });
}

/** Processor time of a process until now, seconds; a tick of /proc is 10 ms. */
function processorSeconds({ pid }: ChildProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** What a caller measured, milliseconds. */
interface Measured {
  readonly answered: number;
  readonly failed: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

function print(what: string, { answered, failed, p50, p99, p999 }: Measured, seconds: number): void {
  const core = (seconds / (SECONDS + WARM_SECONDS)) * 100;
  const millis = [p50, p99, p999].map((one) => one.toFixed(2));
  console.log(`${what}, ${PER_SECOND} a second for ${SECONDS} s: ${answered} answered, ${failed} failed`);
  console.log(
    `  p50 ${millis[0]} ms, p99 ${millis[1]} ms, p99.9 ${millis[2]} ms, ${core.toFixed(0)} % of a core`,
  );
}

async function measure(port: number): Promise<Measured> {
  if (existsSync(goCaller)) {
    const args = ["load", `127.0.0.1:${port}`, String(PER_SECOND), String(SECONDS)];
    const caller = spawn(goCaller, args, { stdio: ["ignore", "pipe", "inherit"] });
    let line = "";
    caller.stdout.on("data", (chunk: Buffer) => {
      line += chunk;
    });
    await once(caller, "close");
    return JSON.parse(line) as Measured;
  }
  console.log(`(${goCaller} is not here: the caller is of Node, and its own delays are in the figures)`);
  const caller = fork(new URL(import.meta.url), ["caller", String(port)], { execArgv: [] });
  const [latencies] = (await once(caller, "message")) as [number[]];
  latencies.sort((one, other) => one - other);
  const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0;
  return { answered: latencies.length, failed: 0, p50: at(0.5), p99: at(0.99), p999: at(0.999) };
}
/** Reading, deciding and writing one call, without sockets: what the host's other work cannot delay. */
function answerAlone(book: PolicyBook): void {
  const parts = { book, config: book.policy.rls as RlsConfig, aliases: {}, count: () => {} };
  const calls = Array.from({ length: TENANTS }, (_, index) =>
    encodeCall({ descriptors: [{ entries: { tenant: `t${index}` }, hits: index % 2 === 0 ? 0 : 40 }] }),
  );
  const micros: number[] = [];
  for (let round = 0; round < 60; round++) {
    for (const bytes of calls) {
      const started = performance.now();
      encodeResponse(answerCall(decodeRequest(bytes), Date.now(), parts));
      if (round >= 10) micros.push((performance.now() - started) * 1000);
    }
  }
  micros.sort((one, other) => one - other);
  const at = (share: number): string => (micros[Math.floor(micros.length * share)] ?? 0).toFixed(0);
  console.log(`one call alone: p50 ${at(0.5)} us, p99 ${at(0.99)} us, p99.9 ${at(0.999)} us`);
}

/** Half of the calls check, half charge. */
async function call(port: number): Promise<void> {
  const client = openChannel({ target: `127.0.0.1:${port}` });
  const latencies: number[] = [];
  const waiting: Promise<void>[] = [];
  const one = async (index: number): Promise<void> => {
    const started = performance.now();
    const entries = { tenant: `t${index % TENANTS}` };
    await shouldRateLimit(client, { descriptors: [{ entries, hits: index % 2 === 0 ? 0 : 40 }] });
    latencies.push(performance.now() - started);
  };
  const send = async (calls: number): Promise<void> => {
    const began = performance.now();
    for (let sent = 0; sent < calls; ) {
      const due = Math.floor(((performance.now() - began) / 1000) * PER_SECOND);
      for (; sent < Math.min(due, calls); sent++) waiting.push(one(sent));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await Promise.all(waiting);
  };
  // Both sides are compiled first.
  await send(WARM_SECONDS * PER_SECOND);
  latencies.length = 0;
  await send(SECONDS * PER_SECOND);
  client.close();
  process.send?.(latencies, () => process.exit(0));
}
