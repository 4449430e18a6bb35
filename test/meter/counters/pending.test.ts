import fc from "fast-check";
import { expect, test } from "vitest";
import { Pending, restorePending } from "../../../agent/meter/counters/pending.ts";
import type { Histogram, Latencies, SettledInterval, TokenIncrement } from "../../../agent/model.ts";

const amount = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const some = { requiredKeys: [] };
const tokens = fc.record(
  { input_uncached: amount, input_cached: amount, input_unsplit: amount, output: amount },
  some,
);
const outcomes = { ok: amount, error: amount, aborted: amount, rejected: amount };
/** Sources share the list of bounds of a family, or give each histogram its own. */
const bounds = fc.constantFrom<readonly number[]>([], [0.1, 1], [0.1, 1], [0.5]);
const histogram: fc.Arbitrary<Histogram> = bounds.chain((own) =>
  fc.record({
    bounds: fc.constantFrom(own, [...own]),
    counts: fc.array(fc.nat(9), { minLength: own.length + 1, maxLength: own.length + 1 }),
    sum: fc.double({ min: 0, max: 1e6, noNaN: true }).map((sum) => sum + 0),
    count: fc.nat(99),
  }),
);
const latencies: fc.Arbitrary<Latencies> = fc.record(
  { time_to_first_token: histogram, "request_duration ok": histogram },
  some,
);
const rank = fc.record({ rank: fc.constantFrom("0", "1"), tokens, requests: fc.nat(9), latencies });
const increment = fc.record(
  {
    server: fc.constantFrom("vllm-0", "litellm"),
    family: fc.constantFrom("engine" as const, "gateway" as const),
    model: fc.string({ maxLength: 3 }),
    tenant: fc.constantFrom("", "0", "team a", "\u0000"),
    endpoint: fc.constantFrom("", "/v1"),
    role: fc.constantFrom("combined" as const, "decode" as const),
    tokens,
    tokensByOutcome: fc.record({ ok: tokens, error: tokens }, some),
    reasoningTokens: fc.nat(),
    requests: fc.record(outcomes, some),
    latencies,
    resets: fc.nat(2),
    late: fc.boolean(),
    at: fc.nat(1),
    doubt: fc.constant("estimated_counters" as const),
    ranks: fc.array(rank, { maxLength: 2 }),
    onGpus: fc.constant({ "GPU-0": 0.25, "GPU-1": 0.75 }),
    elsewhere: fc.constant(true as const),
  },
  {
    requiredKeys: [
      ...(["server", "family", "role", "tokens", "reasoningTokens"] as const),
      ...(["requests", "latencies", "resets", "late", "at"] as const),
    ],
  },
) as fc.Arbitrary<TokenIncrement>;

/** What samples of servers moved, one after the other: the increments of each are of one server and one instant. */
const samples = fc
  .array(fc.array(increment, { minLength: 1, maxLength: 4 }), { maxLength: 5 })
  .map((all) => all.map((one, at) => one.map((each) => ({ ...each, server: one[0]?.server ?? "", at }))));

/** By instant: those of a server wait together. */
const inOrder = (increments: readonly TokenIncrement[]) => increments.toSorted((a, b) => a.at - b.at);

const restored = (pending: Pending) => inOrder(restorePending([{ key: "[1]", value: "" }, pending.row()]));

/** As an agent has them that starts again. */
const late = (waiting: readonly (readonly TokenIncrement[])[]): readonly TokenIncrement[] =>
  waiting.flat().map((one) => ({ ...one, late: true }));

const holding = (waiting: readonly (readonly TokenIncrement[])[]): Pending => {
  const pending = new Pending();
  for (const one of waiting) pending.holdBack(one);
  return pending;
};

test("what waits comes back after a restart as it was, and late", () => {
  fc.assert(
    fc.property(samples, (waiting) => {
      expect(restored(holding(waiting))).toEqual(late(waiting));
    }),
  );
});

test("what was booked waits no longer, whatever was made of its increments", () => {
  const booked = fc.constantFrom("not", "as it was", "copied", "in parts");
  fc.assert(
    fc.property(samples, fc.array(booked, { minLength: 5, maxLength: 5 }), (all, how) => {
      const pending = holding(all);
      const servers = all.flatMap((increments, place) => {
        const server = increments[0]?.server ?? "";
        if (how[place] === "not") return [];
        if (how[place] === "as it was") return [{ server, increments }];
        const copies = increments.map((one): TokenIncrement => ({ ...one, doubt: "assumed_ranks" }));
        const parts = copies.map((one): TokenIncrement => ({ ...one, tokens: {}, elsewhere: true }));
        return [{ server, increments: how[place] === "copied" ? copies : [...copies, ...parts] }];
      });
      pending.booked({ servers } as unknown as SettledInterval);
      const waiting = all.filter((_, place) => how[place] === "not");
      expect(pending.size).toBe(waiting.flat().length);
      expect(restored(pending)).toEqual(late(waiting));
    }),
  );
});

test("a row of an agent before is read but for what it may have booked, one that is damaged or of a later form is not", () => {
  fc.assert(
    fc.property(samples, (waiting) => {
      const all = waiting.flat();
      const ranked = new Set(all.flatMap(({ ranks, server }) => (ranks === undefined ? [] : [server])));
      // Of a server with ranks, what its last poll with some moved, and nothing older.
      const lastRanked = (server: string) =>
        Math.max(...all.flatMap((one) => (one.server === server && one.ranks !== undefined ? one.at : [])));
      const sure = all.filter(({ at, server }) => !ranked.has(server) || at >= lastRanked(server));
      const texts = [JSON.stringify(all), holding(waiting).row().value.replace('"form":3', '"form":2')];
      for (const value of texts)
        expect(inOrder(restorePending([{ key: '["pending"]', value }]))).toEqual(late([sure]));
      const [text = ""] = texts;
      for (const value of [text.slice(1), '{"form":4,"groups":[]}'])
        expect(restorePending([{ key: '["pending"]', value }])).toEqual([]);
    }),
  );
});

test("a thousand increments of one poll take a text of a few dozen bytes each", () => {
  const one = (place: number): TokenIncrement => ({
    ...{
      server: "litellm",
      family: "gateway",
      role: "combined",
      model: "org/model",
      tenant: `team-${place}`,
    },
    ...{ tokens: { input_unsplit: 1000 + place, output: place + 1 }, requests: { ok: 3 }, latencies: {} },
    ...{ reasoningTokens: 0, resets: 0, late: false, at: 5 },
  });
  const pending = new Pending();
  pending.holdBack(Array.from({ length: 1000 }, (_, place) => one(place)));
  expect(pending.row().value.length / 1000).toBeLessThan(70);
});
