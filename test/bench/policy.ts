// Rate-limit calls: latency at 1,000 calls a second over one connection while usage of 1,000 tenants is booked, the
// processor time they take, and the memory of 1,000 counters. Nothing is asserted; the bar is p99 <= 2 ms on half a core
// and 5 MB. The caller is a process of its own, so that what is measured is the answering one.
import { fork } from "node:child_process";
import { openChannel } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { PolicyBook } from "../../agent/policy/book.ts";
import type { RlsConfig } from "../../agent/policy/config.ts";
import { serveRateLimits } from "../../agent/policy/rls.ts";
import { answerCall } from "../../agent/policy/rls-answer.ts";
import { decodeRequest, encodeResponse } from "../../agent/policy/rls-wire.ts";
import { fed, gatewaySeries, policyWith } from "../policy/fixtures.ts";
import { encodeCall, shouldRateLimit } from "../policy/rls-calls.ts";

const [SECONDS, PER_SECOND, TENANTS] = [Number(process.env["POLICY_BENCH_SECONDS"] ?? 10), 1000, 1000];

if (process.argv[2] === "caller") await call(Number(process.argv[3]));
else await answer();

/** The answering side, with usage booked every second and a beat every ten. */
async function answer(): Promise<void> {
  const quotas = [
    { match: { tenant: "*" }, mode: "local", per: "minute", limit: 1e9 },
    { match: { tenant: "t1" }, mode: "shadow", per: "month", limit: 1e9 },
    { count: "requests", per: "day", limit: 1e12, mode: "shadow" },
  ];
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  const book = new PolicyBook(
    policyWith(quotas, { keysMax: 2000, rls: { listen: "127.0.0.1:0" } }),
    Date.now(),
  );
  const sets = Array.from({ length: TENANTS }, (_, index) => gatewaySeries(`t${index}`));
  const bookAll = (): void => {
    for (const dimensions of sets) {
      book.book({
        metric: "tokenwatt.gateway.tokens",
        dimensions,
        amount: 7,
        atMillis: Date.now(),
        own: false,
      });
    }
  };
  bookAll();
  book.commit(Date.now(), () => fed);
  book.takeRows();
  globalThis.gc?.();
  const heap = (process.memoryUsage().heapUsed - before) / 1e6;
  const listener = await serveRateLimits(
    { listen: "127.0.0.1:0" },
    (bytes) => {
      const parts = { book, config: book.policy.rls as RlsConfig, aliases: {}, count: () => {} };
      return encodeResponse(answerCall(decodeRequest(bytes), Date.now(), parts));
    },
    silentLog,
  );
  answerAlone(book);
  const beats = setInterval(bookAll, 1000);
  const rows = setInterval(() => {
    book.commit(Date.now(), () => fed);
    book.takeRows();
  }, 10_000);
  const cpu = process.cpuUsage();
  const caller = fork(new URL(import.meta.url), ["caller", String(listener.port)], { execArgv: [] });
  const latencies = await new Promise<number[]>((resolve) =>
    caller.once("message", (message) => resolve(message as number[])),
  );
  const { system, user } = process.cpuUsage(cpu);
  clearInterval(beats);
  clearInterval(rows);
  listener.close();
  latencies.sort((one, other) => one - other);
  const at = (share: number): string => (latencies[Math.floor(latencies.length * share)] ?? 0).toFixed(2);
  const core = ((user + system) / 1e6 / (SECONDS + 2)) * 100;
  console.log(`rate-limit calls, ${PER_SECOND} a second for ${SECONDS} s, ${latencies.length} answered`);
  console.log(
    `  p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, p99.9 ${at(0.999)} ms, ${core.toFixed(0)} % of a core`,
  );
  console.log(`  ${TENANTS} counters: ${heap.toFixed(1)} MB`);
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
  await send(2 * PER_SECOND);
  latencies.length = 0;
  await send(SECONDS * PER_SECOND);
  client.close();
  process.send?.(latencies, () => process.exit(0));
}
