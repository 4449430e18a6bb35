// kill -9 at random moments against a moody collector: 100 times here, 1,000 with E2E_KILLS=1000.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { status } from "../../../agent/platform/grpc.ts";
import type { Answer } from "../../fakes/otlp-collector.ts";
import { startCollector } from "../../fakes/otlp-collector.ts";
import { FLAWLESS, Oracle } from "./oracle.ts";

const KILLS = Number(process.env["E2E_KILLS"] ?? 100);
const SEED = Number(process.env["E2E_SEED"] ?? Date.now() % 1_000_000);

/** Small, fast and repeatable. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function mood(roll: number): Answer {
  if (roll < 0.08) return { kind: "error", code: status.UNAVAILABLE };
  if (roll < 0.12) return { kind: "error", code: status.UNAVAILABLE, retryAfterMs: 30 };
  if (roll < 0.2) return { kind: "taken_then_lost" };
  if (roll < 0.22) return { kind: "silence" };
  if (roll < 0.3) return { kind: "slow", ms: 20 };
  return { kind: "ok" };
}

test(`${KILLS} x kill -9 lose and double nothing`, async () => {
  const random = randomFrom(SEED);
  const folder = mkdtempSync(join(tmpdir(), "kills-"));
  let steady = false;
  const collector = await startCollector({ answer: () => (steady ? { kind: "ok" } : mood(random())) });
  const promised: number[] = [];
  const losses: string[] = [];
  let start = 0n;
  let drained = false;
  for (let kill = 0; kill <= KILLS; kill++) {
    const child = spawn(
      process.execPath,
      [fileURLToPath(new URL("agent-child.ts", import.meta.url)), folder, `127.0.0.1:${collector.port}`],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const began = new Promise<void>((resolve) => {
      createInterface({ input: child.stdout }).on("line", (line) => {
        const [word, value = ""] = line.split(" ");
        if (word === "start") start = BigInt(value);
        if (word === "loss") losses.push(line);
        if (word === "drained") drained = value === "true";
        if (word !== "beat") return;
        promised.push(Number(value));
        resolve();
      });
    });
    const ended = once(child, "close");
    if (kill < KILLS) {
      // Some die before their first beat, most at any moment after it.
      if (random() < 0.85) await Promise.race([began, ended]);
      await new Promise((resolve) => setTimeout(resolve, random() * 150));
      child.kill("SIGKILL");
    } else {
      steady = true;
      await began;
      child.kill("SIGTERM");
    }
    await ended;
  }
  const oracle = new Oracle(start);
  for (const request of collector.requests) oracle.accept(request);
  await collector.close();
  rmSync(folder, { recursive: true, force: true });
  const verdict = oracle.verdict(Math.max(...promised), promised);
  console.log(
    `kills ${KILLS}, seed ${SEED}, beats ${promised.length}, requests ${collector.seen()}, points ${oracle.points}, repeats ${oracle.repeats}, ` +
      `lost tokens ${verdict.lostTokens}, doubled tokens ${verdict.doubledTokens}`,
  );
  expect(drained).toBe(true);
  expect(losses).toEqual([]);
  expect(verdict).toEqual(FLAWLESS);
});
