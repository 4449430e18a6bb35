// What the page says of data-parallel ranks whose GPUs are not where their order says, or not known at all.
import { expect, test } from "vitest";
import type { RankStatus } from "../../agent/correlate/rank-places.ts";
import type { AdviceParts } from "../../agent/daemon/advice.ts";
import { adviceOf } from "../../agent/daemon/advice.ts";

/** Advice about a server whose ranks are as given; all else is well. */
function adviceOn(ranks: readonly RankStatus[]): readonly string[] {
  const servers = new Map([["engine", { id: "engine", address: "http://localhost:8000", gpus: ["g0"] }]]);
  const health = { get: () => undefined, notes: () => [] };
  const intake = { gpus: new Map([["g0", {}]]), health, lastTokenSamples: new Map(), servers };
  const parts = {
    clock: { now: () => 0 },
    pipeline: { gpu: {}, intake },
    exports: { deliveries: [], unkept: undefined },
    correlator: { status: () => ({ placements: [], ranks, energy: {} }) },
    tried: [],
  };
  return adviceOf(parts as unknown as AdviceParts)
    .filter(({ id }) => id === "discovery.placement")
    .map(({ remedy, seen }) => `${seen}; ${remedy}`);
}

const rank = (name: string, gpus: readonly string[], place: RankStatus["place"]): RankStatus => ({
  ...{ server: "engine", rank: name, gpus, place },
});

test("adviceOf() names ranks that are out of order, and the order to configure", () => {
  const out = { isOutOfOrder: true } as const;
  const found = adviceOn([
    { ...rank("10", ["g0"], "learned"), ...out },
    { ...rank("9", ["g1"], "learned"), ...out },
  ]);
  expect(found).toHaveLength(1);
  expect(found[0]).toMatch(/ranks 10, 9 are on other GPUs than their order says/);
  expect(found[0]).toContain("`gpus`: [g1, g0]");
});

test("adviceOf() names no whole order where ranks are on other hosts, but where those here are", () => {
  const out = { isOutOfOrder: true } as const;
  const found = adviceOn([
    rank("0", [], "elsewhere"),
    { ...rank("1", ["g1"], "learned"), ...out },
    { ...rank("2", ["g0"], "learned"), ...out },
    rank("3", [], "elsewhere"),
  ]);
  expect(found[0]).not.toContain("`gpus`: [");
  expect(found[0]).toMatch(/those of other hosts too \(`gpus`\).*: rank 1 on g1; 2 on g0/);
});

test("adviceOf() names ranks whose GPUs are not known, and is silent on those that are", () => {
  expect(adviceOn([rank("0", ["g0"], "learned"), rank("1", ["g1"], "assumed")])).toEqual([]);
  expect(adviceOn([rank("0", [], "unknown"), rank("1", [], "unknown")])[0]).toMatch(
    /ranks 0, 1 are not known/,
  );
});
