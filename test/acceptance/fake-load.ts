// The load of known token counts where there is no GPU: the same log as load.py, with a fake driver library that is made
// to be busy exactly while a request is served. It shows that the acceptance runs whole; it proves nothing about hardware.
import { appendFileSync, writeFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import type { FakeNvml } from "../fakes/nvml/build.ts";

/** Runs phases of rest, work and pulses for `seconds` against `fake`, logging to `path`. */
export async function fakeLoad(path: string, seconds: number, fake: FakeNvml): Promise<void> {
  const counts = { prompt_tokens_total: 0, generation_tokens_total: 0, requests_total: 0 };
  const say = (line: object, t = Date.now() / 1000): void =>
    appendFileSync(path, `${JSON.stringify({ t, ...line, ...counts })}\n`);
  const spans: string[] = [];
  const work = (span: string): void =>
    fake.scenario(
      "gpus 1",
      "processes 0 1",
      `pid 0 ${process.pid}`,
      "util 0 0",
      "power 0 80000",
      "energy 0 80000",
      ...spans,
      span,
    );
  const micros = (): number => Date.now() * 1000;
  writeFileSync(path, "");
  work(`span ${micros()} ${micros()}`);
  say({ event: "start", pid: process.pid, requests_running: 0 });
  say({ event: "loaded", requests_running: 0 });
  say({ event: "warm", requests_running: 0 });
  const request = async (length: number): Promise<void> => {
    say({ requests_running: 64 });
    const began = Date.now();
    const from = micros();
    work(`span ${from} 0`);
    await setTimeout(length);
    spans.push(`span ${from} ${micros()}`);
    work("");
    counts.prompt_tokens_total += 64 * 128;
    counts.generation_tokens_total += Math.round(64 * length);
    counts.requests_total += 64;
    const now = Date.now();
    say({ event: "req", e2e_s: (now - began) / 1000, ttft_s: 0, requests_running: 0 }, now / 1000);
  };
  const end = Date.now() + seconds * 1000;
  while (Date.now() < end) {
    for (const [phase, length] of [
      ["idle", 4000],
      ["serve", 6000],
      ["pulse", 6000],
    ] as const) {
      say({ event: "phase", phase, requests_running: 0 });
      const until = Math.min(end, Date.now() + length);
      while (Date.now() < until) {
        if (phase === "idle") await setTimeout(until - Date.now());
        else await request(phase === "serve" ? 600 : 1000);
        if (phase === "pulse") await setTimeout(1000);
      }
    }
  }
  say({ event: "end", requests_running: 0 });
}
