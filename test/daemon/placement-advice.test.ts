// What the page says of a server that names GPUs: of this host, of its boards, of another host, or while none can be read.
import { expect, test } from "vitest";
import type { AdviceParts } from "../../agent/daemon/advice.ts";
import { adviceOf } from "../../agent/daemon/advice.ts";

const gpusHere = [{ uuid: "GPU-1" }, { uuid: "MIG-1", parent: "GPU-2" }];

/** How often a server that answers, and names `gpus`, is said to have no place. */
function homeless(gpus: readonly string[], here: readonly { readonly uuid: string }[] = gpusHere): number {
  const info = { id: "engine", address: "http://localhost:8000", gpus };
  const parts = {
    clock: { now: () => 0 },
    pipeline: {
      gpu: {},
      intake: {
        gpus: new Map(here.map((gpu) => [gpu.uuid, gpu])),
        health: { get: () => undefined, notes: () => [] },
        lastTokenSamples: new Map([["engine", { family: "engine" }]]),
        servers: new Map([["engine", info]]),
      },
      recent: { homesOf: () => [] },
    },
    exports: { deliveries: [], unkept: undefined },
    correlator: { status: () => ({ placements: [], ranks: [], energy: {} }) },
    tried: [],
  };
  const advice = adviceOf(parts as unknown as AdviceParts);
  return advice.filter(({ id }) => id === "discovery.placement").length;
}

test.each([
  ["one of this host", ["GPU-9", "GPU-1"], 0],
  ["the board of an instance", ["GPU-2"], 0],
  ["one of another host", ["GPU-9"], 1],
  ["none", [], 1],
])("a server that names %s is said to have no place or not", (_, gpus, times) => {
  expect(homeless(gpus)).toBe(times);
});

test("nothing speaks against a name while no GPU can be read", () => {
  expect(homeless(["GPU-9"], [])).toBe(0);
});
