// The demo's host as its sources play it: within half a minute of a person's time every view has something in it.
import { expect, test } from "vitest";
import { sceneGpus, sceneServers } from "../../../agent/cli/demo/scene.ts";
import { openSceneGpus } from "../../../agent/cli/demo/scene-gpus.ts";
import { virtualClock } from "../../../agent/platform/clock.ts";

test("boards are read for minutes: energy never falls within an epoch, readings are new, ids of processes are their own", async () => {
  const clock = virtualClock(0n);
  const source = openSceneGpus(sceneGpus, clock, 0);
  const last = new Map<string, { readonly at: number; readonly energy: number; readonly epoch: string }>();
  const pids = new Map<number, Set<string>>();
  let gaps = 0;
  for (let second = 1; second < 300; second++) {
    await clock.advance(second * 1e9);
    const poll = await source.poll();
    gaps += poll.gaps.length;
    for (const {
      at,
      energyEpoch = "",
      energyMillijoules = 0,
      gpu,
      processes = [],
      utilizationRing,
    } of poll.samples) {
      const before = last.get(gpu);
      expect(at).toBeGreaterThan(before?.at ?? -1);
      if (before?.epoch === energyEpoch) expect(energyMillijoules).toBeGreaterThanOrEqual(before.energy);
      last.set(gpu, { at, energy: energyMillijoules, epoch: energyEpoch });
      for (const { pid } of processes) pids.set(pid, (pids.get(pid) ?? new Set()).add(gpu));
      for (const [place, then] of utilizationRing?.instants.entries() ?? [])
        expect(then).toBeGreaterThan(utilizationRing?.instants[place - 1] ?? -1);
    }
  }
  expect(last.size).toBe(sceneGpus.length);
  // One board is lost for half a minute, and again after four.
  expect(gaps).toBe(30);
  expect([...pids.values()].every((gpus) => gpus.size === 1)).toBe(true);
});

test("every engine is on boards of the scene, and each endpoint is of one engine: a gateway's counters are told apart", () => {
  const boards = new Set(sceneGpus.map(({ info }) => info.uuid));
  for (const { gpus } of sceneServers) for (const gpu of gpus) expect(boards).toContain(gpu);
  const endpoints = sceneServers.flatMap(({ endpoint }) => endpoint ?? []);
  expect(new Set(endpoints).size).toBe(endpoints.length);
  const weights = Map.groupBy(sceneGpus, ({ info }) => info.parent ?? info.uuid);
  expect(weights.size).toBe(8);
});
