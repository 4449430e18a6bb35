// One object of a kind stays while its owner does, and no more than one.
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { keepShape } from "../../agent/platform/kept-shapes.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Whether what the references are to is still there once everything was collected that nothing holds. */
async function areThere(references: readonly WeakRef<object>[]): Promise<boolean[]> {
  // What a WeakRef was made of is held until the turn is over.
  await sleep(1);
  collect();
  return references.map((reference) => reference.deref() !== undefined);
}

function kept(owner: object, count: number): WeakRef<object>[] {
  return Array.from({ length: count }, (_, place) => {
    const one = { place };
    keepShape(owner, one);
    return new WeakRef(one);
  });
}

test("keepShape() keeps the last one of each owner alive, and none once the owner is gone", async () => {
  const [owner, other] = [{}, {}];
  const references = [...kept(owner, 3), ...kept(other, 1), ...kept({}, 1)];
  expect(await areThere(references)).toEqual([false, false, true, true, false]);
  keepShape(owner, undefined);
  expect(await areThere(references)).toEqual([false, false, false, true, false]);
  expect(other).toBeDefined();
});
