import { describe, expect, test } from "vitest";
import type { OwnStretch } from "../../agent/correlate/own-states.ts";
import { cut } from "../../agent/correlate/pieces.ts";
import type { Holding } from "../../agent/correlate/tenancy.ts";
import { unmetered } from "../../agent/correlate/tenancy.ts";
import { Timeline } from "../../agent/correlate/timeline.ts";
import { gpuInfo, readings, repeated, second } from "./scene.ts";

const whole = { from: 0, to: 4 * second };

function own(state: OwnStretch["state"], contested = false): OwnStretch {
  return { ...whole, state, method: "counter_gpu", contested, doubt: undefined };
}

/** Pieces of 4 s in which the GPU works (or not) and the given residents are in the given states. */
function pieces(states: Readonly<Record<string, OwnStretch>>, busy: number) {
  const timeline = new Timeline(gpuInfo("g"), 0, 3 * second);
  for (const sample of readings("g", repeated(5, { busy, pids: [1] }))) timeline.queueReading(sample);
  while (timeline.takeUpNext());
  const holdings = Object.keys(states).map((server): Holding => ({ server, ...whole, pids: [1] }));
  const cutting = {
    timeline,
    tenancy: { holdings, passing: [], placed: [] },
    own: new Map(
      Object.entries(states).map(([server, stretch]) => [server, { all: [stretch], byGpu: new Map() }]),
    ),
    ...whole,
  };
  return cut(cutting).map(({ state, residents }) => [state, ...residents.map((resident) => resident.state)]);
}

describe("cut() gives the GPU the highest of its residents' states", () => {
  test.each([
    [
      "active beats all",
      { a: own("active"), b: own("idle"), c: own("waiting") },
      1,
      ["token_active", "token_active", "parked", "stalled"],
    ],
    ["waiting is stalled, works the GPU or not", { a: own("waiting") }, 0, ["stalled", "stalled"]],
    ["idle is parked", { a: own("idle"), b: own("idle") }, 0, ["parked", "parked", "parked"]],
    [
      "idle while the GPU works for nobody is stalled",
      { a: own("idle"), b: own("idle") },
      1,
      ["stalled", "stalled", "stalled"],
    ],
    ["unknown while the GPU works is stalled", { a: own("unknown") }, 1, ["stalled", "stalled"]],
    ["unknown while it does not is parked", { a: own("unknown") }, 0, ["parked", "parked"]],
    [
      "work two servers contest is active, whose it is stays open",
      { a: own("idle", true), b: own("idle") },
      1,
      ["token_active", "stalled", "stalled"],
    ],
    ["nothing is contested while the GPU rests", { a: own("idle", true) }, 0, ["parked", "parked"]],
    [
      "unknown processes may work beside a server",
      { a: own("active"), [unmetered]: own("unknown") },
      1,
      ["token_active", "token_active", "stalled"],
    ],
    ["unknown processes alone", { [unmetered]: own("unknown") }, 1, ["other"]],
    ["nobody", {}, 1, ["free"]],
  ] as const)("%s", (_, states, busy, wanted) => {
    expect(pieces(states, busy)).toEqual([wanted]);
  });
});
