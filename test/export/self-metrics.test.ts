// The agent's own metrics reach a collector over a real socket, in a process of their own: the SDK is global.
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { startCollector } from "../fakes/otlp-collector.ts";
import { decodeAll } from "./otlp-decode.ts";

describe("startSelfMetrics()", () => {
  test("reports cpu, memory, loop delay and every tally, once more at stop, and ends", async () => {
    const collector = await startCollector();
    const child = fork(fileURLToPath(new URL("self-metrics-child.ts", import.meta.url)), [
      `127.0.0.1:${collector.port}`,
    ]);
    const [code] = (await once(child, "exit")) as [number];
    expect(code).toBe(0);
    const points = decodeAll(collector.requests);
    await collector.close();
    const last = new Map(
      points.map((point) => [
        `${point.metric} ${Object.values(point.attributes).join(" ")}`.trim(),
        point.value,
      ]),
    );
    expect(Object.fromEntries(last)).toMatchObject({
      "tokenwatt.agent.exported_points main": 12,
      "tokenwatt.agent.dropped_points main partial": 3,
      "tokenwatt.agent.queued_records": 4,
      "tokenwatt.agent.gaps gpu": 2,
      "tokenwatt.agent.ledger_records": 7,
      "tokenwatt.agent.ledger_head": 0xfedcba9876543,
    });
    expect(last.get("tokenwatt.agent.memory")).toBeGreaterThan(10e6);
    expect(last.get("tokenwatt.agent.cpu_time user")).toBeGreaterThan(0);
    expect(last.has("tokenwatt.agent.event_loop_delay")).toBe(true);
  });
});
