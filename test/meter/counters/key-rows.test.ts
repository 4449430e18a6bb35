// Label sets that share rows, by law: over any life of tenants, restarts, and rows of versions before, each label set that is
// remembered is stored once, with what it stood at last, and what it moves next is counted to the token.
import fc from "fast-check";
import { expect, test } from "vitest";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import { keyRowStates } from "../../../agent/meter/counters/key-row-text.ts";
import type { KeyState } from "../../../agent/meter/counters/key-state.ts";
import type { StateRow, TokenReading } from "../../../agent/model.ts";

const SECOND = 1e9;
const DAY = 86_400;
const TENANTS = 30;

const step = fc.record({
  /** What each of the tenants on the page used since it was seen last. */
  used: fc.dictionary(
    fc.nat(TENANTS - 1).map((tenant) => String(tenant)),
    fc.nat(900),
    { maxKeys: TENANTS },
  ),
  days: fc.constantFrom(0, 0, 0, 1, 3),
  next: fc.constantFrom(
    ...([
      "go on",
      "go on",
      "restart",
      "restart of a version before",
      "restart of the first version",
    ] as const),
    "forget" as const,
  ),
});

/** Everything that is stored of label sets. */
function labelSets(rows: ReadonlyMap<string, string>): readonly KeyState[] {
  return [...rows].flatMap(([key, value]) => {
    const parts = JSON.parse(key) as readonly unknown[];
    if (parts.length === 2) return [];
    return parts.length === 4 ? keyRowStates(value) : [JSON.parse(value) as KeyState];
  });
}

/** The rows as the first version wrote them: a label set each. */
function inFirstForm(rows: ReadonlyMap<string, string>): Map<string, string> {
  const server = [...rows].filter(([key]) => (JSON.parse(key) as unknown[]).length === 2);
  const each = labelSets(rows).map((one): [string, string] => {
    const label = ["combined", "\u0001", one.identity.tenant, "\u0001"].join("\u0000");
    return [JSON.stringify(["sample", "s", label]), JSON.stringify(one)];
  });
  return new Map([...server, ...each]);
}

/** The rows as a version before wrote them: lists of label sets as they are. */
function asLists(rows: ReadonlyMap<string, string>): Map<string, string> {
  return new Map(
    [...rows].map(([key, value]) => [
      key,
      key.includes('"rows"') ? JSON.stringify(keyRowStates(value)) : value,
    ]),
  );
}

function store(rows: Map<string, string>, changes: readonly StateRow[]): void {
  for (const { key, value } of changes)
    if (value === "") rows.delete(key);
    else rows.set(key, value);
}

test("each label set is stored once, as it stood last, and counted on from there after any restart", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      let increments = new Increments({ agentStarted: 0 });
      let rows = new Map<string, string>();
      /** What the page shows of every tenant there ever was, and what is remembered. */
      const shown = new Map<string, number>();
      const known = new Map<string, { value: number; at: number }>();
      let at = 1;
      for (const { days, next, used } of steps) {
        at += 5 + days * DAY;
        const readings = Object.entries(used).map(([tenant, amount]): TokenReading => {
          shown.set(tenant, (shown.get(tenant) ?? 0) + amount);
          const tokens = { output: shown.get(tenant) ?? 0 };
          return { role: "combined", tenant, tokens, requests: {}, volume: "step", epoch: "e" };
        });
        const times = { sent: at * SECOND, received: at * SECOND, at: at * SECOND };
        const page = { readings, scale: "x", ignoredSamples: 0, errors: [] };
        const { increments: moved } = increments.countSample({
          server: "s",
          family: "gateway",
          ...times,
          ...page,
        });
        const counted = new Map(moved.map(({ tenant = "", tokens }) => [tenant, tokens.output]));
        for (const { tenant = "", tokens } of readings) {
          const difference = (tokens.output ?? 0) - (known.get(tenant)?.value ?? 0);
          // Of the first page nothing counts.
          if (known.size > 0) expect(counted.get(tenant) ?? 0).toBe(difference);
        }
        for (const { tenant = "", tokens } of readings) known.set(tenant, { value: tokens.output ?? 0, at });
        store(rows, increments.takeChanges(BigInt));
        const stored = labelSets(rows);
        const values = new Map(stored.map((one) => [one.identity.tenant, one.values[3]]));
        expect(values.size).toBe(stored.length);
        for (const [key, value] of rows)
          if (key.includes('"rows"')) expect(keyRowStates(value).length).toBeLessThanOrEqual(8);
        // What was not seen for two days may be forgotten, once in an hour of looks.
        for (const [tenant, one] of known) {
          if (!values.has(tenant) && at - one.at > 2 * DAY) known.delete(tenant);
          else expect(values.get(tenant)).toBe(one.value);
        }
        expect(values.size).toBe(known.size);
        if (next === "forget") {
          increments.forget("s");
          store(rows, increments.takeChanges(BigInt));
          expect(rows.size).toBe(0);
          known.clear();
        } else if (next !== "go on") {
          if (next === "restart of the first version") rows = inFirstForm(rows);
          if (next === "restart of a version before") rows = asLists(rows);
          increments = new Increments({ agentStarted: at * SECOND });
          const all = [...rows].map(([key, value]) => ({ key, value }));
          expect(increments.restore(all, Number)).toBe(0);
          // Killed before the first look, it has lost nothing of what it moved to other rows.
          store(rows, increments.takeChanges(BigInt));
          expect(new Set(labelSets(rows).map(({ identity }) => identity.tenant))).toEqual(
            new Set(known.keys()),
          );
        }
      }
    }),
    { numRuns: 200 },
  );
});

test("what a version before wrote later, beside rows it did not know, is what counts", () => {
  const rows = new Map<string, string>();
  const first = new Increments({ agentStarted: 0 });
  const page = (output: number): Parameters<Increments["countSample"]>[0] => ({
    ...{ server: "s", family: "gateway", sent: 5 * SECOND, received: 5 * SECOND, at: 5 * SECOND },
    ...{ scale: "x", ignoredSamples: 0, errors: [] },
    readings: [
      { role: "combined", tenant: "a", tokens: { output }, requests: {}, volume: "step", epoch: "e" },
    ],
  });
  first.countSample(page(10));
  store(rows, first.takeChanges(BigInt));
  const later = new Increments({ agentStarted: 0 });
  later.countSample(page(70));
  const before = new Map<string, string>();
  store(before, later.takeChanges(BigInt));
  for (const [key, value] of inFirstForm(before)) rows.set(key, value);
  const both = new Increments({ agentStarted: 0 });
  expect(
    both.restore(
      [...rows].map(([key, value]) => ({ key, value })),
      Number,
    ),
  ).toBe(0);
  expect(both.countSample(page(75)).increments).toMatchObject([{ tokens: { output: 5 } }]);
  store(rows, both.takeChanges(BigInt));
  expect(labelSets(rows).map(({ values }) => values[3])).toEqual([75]);
});
