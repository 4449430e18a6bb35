// step-rows.ts: what is added to a row, what is left out of it, and that rows of a window hold what their steps held.
import { describe, expect, test } from "vitest";
import { Row, Rows } from "../../../agent/meter/figures/step-rows.ts";
import type { ServerInterval } from "../../../agent/model.ts";
import { intervalOf, moved } from "../fixtures.ts";

function cost(amount: number, state: string, currency?: string) {
  const named = currency === undefined ? {} : { "tokenwatt.currency": currency };
  return { metric: "tokenwatt.gpu.cost", amount, dimensions: { "tokenwatt.gpu.state": state, ...named } };
}

describe("Row", () => {
  test("adds up tokens of engines alone, and of those what met time of this host", () => {
    const row = new Row("server", "s");
    const tokens = { input_uncached: 3, input_cached: 4, output: 5 };
    const increments = [
      moved({ tokens }),
      moved({ tokens, late: true }),
      moved({ tokens, elsewhere: true }),
      moved({ tokens, family: "gateway" }),
    ];
    const [server] = intervalOf({ from: 0, to: 1, increments }).servers;
    row.addTokens({ ...(server as ServerInterval), increments });
    expect(row.totals()).toMatchObject({ inputTokens: 7, outputTokens: 5 });
  });

  test("added to another one is there whole, and a state without a price stays without one", () => {
    const [step, all] = [new Row("product", "H100"), new Row("product", "H100")];
    step.addStates("H100", { token_active: 2, free: 3 }, { token_active: 5 });
    step.addUnknown("unknown", { token_active: 2, stalled: 0, parked: 1 });
    step.addCost(cost(7, "token_active", "USD"));
    all.addRow(step);
    all.addRow(step);
    expect(all.totals()).toEqual({
      gpuNanos: { token_active: 4, stalled: 0, parked: 0, other: 0, free: 6, unobserved: 0 },
      gpuMillijoules: { token_active: 10, stalled: 0, parked: 0, other: 0, free: 0, unobserved: 0 },
      ...{ unknownNanos: 6, inputTokens: 0, outputTokens: 0 },
      cost: { token_active: 14 },
    });
    expect([all.currency, all.unpriced]).toEqual(["USD", false]);
  });

  test("says that some of it has no price, or one in another currency, whichever step it was in", () => {
    for (const other of ["EUR", undefined]) {
      const [step, all] = [new Row("server", "s"), new Row("server", "s")];
      step.addCost(cost(1, "free", "USD"));
      step.addCost(cost(1, "free", other));
      all.addRow(step);
      expect([step.unpriced, all.unpriced]).toEqual([true, true]);
    }
  });
});

test("Rows keeps so many rows and no more; what is beyond them is counted nowhere", () => {
  const rows = new Rows(2);
  for (const name of ["a", "b", "c"]) rows.row("server", name);
  expect(rows.all.map(({ name }) => name)).toEqual(["a", "b"]);
  expect(rows.row("server", "a")).toBe(rows.all[0]);
  expect(rows.find("server", "c")).toBeUndefined();
});
