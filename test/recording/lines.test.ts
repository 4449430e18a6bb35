// Lines of a recording say all that metering a poll again needs.
import { expect, test } from "vitest";
import type { TokenSample } from "../../agent/model.ts";
import type { JsonLine } from "../../agent/recording/files.ts";
import { pollLine, pollOf } from "../../agent/recording/lines.ts";

const sample: TokenSample = {
  server: "chat",
  family: "engine",
  sent: 1_000_000_000,
  received: 3_000_000_000,
  at: 2_000_000_000,
  activeNanos: 5,
  phaseTimes: { requests: 1, prefillNanos: 2, decodeNanos: 3 },
  completeEpoch: "a",
  scale: "b",
  restarts: 1,
  doubt: "partial_counters",
  isOlder: true,
  gpus: ["GPU-1"],
  pids: [7],
  version: "1",
  readings: [
    { role: "combined", volume: "step", tokens: { input_unsplit: 4, output: 5 }, requests: { ok: 6 } },
  ],
  ignoredSamples: 2,
  errors: ["error"],
};

test("pollOf() gives back every field that pollLine() was given", () => {
  const line = JSON.parse(JSON.stringify(pollLine(sample, (at) => at / 1e9))) as JsonLine;
  expect(pollOf(line, "chat", (seconds) => Math.round(seconds * 1e9))).toEqual(sample);
});

test("pollOf() leaves out a doubt that no source has", () => {
  const line = { ...pollLine(sample, (at) => at / 1e9), doubt: "a feeling" };
  expect(pollOf(line, "chat", (seconds) => Math.round(seconds * 1e9))).not.toHaveProperty("doubt");
});
