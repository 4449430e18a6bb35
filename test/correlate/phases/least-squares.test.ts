// Least squares against what the observations were made from.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LeastSquares } from "../../../agent/correlate/phases/least-squares.ts";

const cost = fc.double({ min: 0.01, max: 10, noNaN: true });
const row = fc.tuple(
  fc.integer({ min: 0, max: 100 }),
  fc.integer({ min: 0, max: 100 }),
  fc.integer({ min: 0, max: 100 }),
);

describe("LeastSquares.solve()", () => {
  test("finds the costs that exact observations were made from", () => {
    fc.assert(
      fc.property(
        fc.tuple(cost, cost, cost),
        fc.array(row, { minLength: 5, maxLength: 30 }),
        (costs, rows) => {
          const fit = new LeastSquares(3, 1);
          // Three rows that are sure to tell the inputs apart.
          for (const inputs of [[50, 1, 2], [1, 50, 3], [2, 1, 50], ...rows])
            fit.observe(
              inputs,
              inputs.reduce((sum, input, index) => sum + input * (costs[index] as number), 0),
              1,
            );
          const { coefficients } = fit.solve();
          costs.forEach((wanted, index) => {
            expect(Math.abs((coefficients[index] as number) / wanted - 1)).toBeLessThan(0.01);
          });
        },
      ),
      { numRuns: 100 },
    );
  });

  test("gives no coefficient below 0, whatever was observed", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(row, fc.double({ min: 0, max: 1000, noNaN: true })), {
          minLength: 1,
          maxLength: 20,
        }),
        (observed) => {
          const fit = new LeastSquares(3, 0.99);
          for (const [inputs, outcome] of observed) fit.observe(inputs, outcome, 1);
          const { coefficients, errors } = fit.solve({ index: 0, value: 1, error: 0.5 });
          for (const value of coefficients) expect(value >= 0 && Number.isFinite(value)).toBe(true);
          for (const error of errors) expect(error >= 0).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("ends whatever was observed and whatever is believed, and no figure is other than a number of 0 or more", () => {
    const any = fc.oneof(
      fc.double({ min: 0, max: 1e6, noNaN: true }),
      fc.constantFrom(0, -0, 1e-300, 1e300, Infinity, NaN),
    );
    const three = fc.tuple(any, any, any);
    const belief = fc.record(
      { index: fc.nat({ max: 2 }), value: any, error: any, others: fc.record({ 0: any }) },
      { requiredKeys: ["index", "value", "error"] },
    );
    fc.assert(
      fc.property(
        fc.array(fc.tuple(three, any, any), { maxLength: 12 }),
        fc.array(belief, { maxLength: 4 }),
        (observed, beliefs) => {
          const fit = new LeastSquares(3, 0.99);
          for (const [inputs, outcome, weight] of observed) fit.observe(inputs, outcome, weight);
          const { coefficients, errors } = fit.solve(...beliefs);
          for (const value of coefficients) expect(value >= 0 && Number.isFinite(value)).toBe(true);
          for (const error of errors) expect(error >= 0).toBe(true);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test("believes what it was told of an input that never moved", () => {
    const fit = new LeastSquares(2, 1);
    for (let index = 1; index < 10; index++) fit.observe([0, index], 3 * index, 1);
    const { coefficients, errors } = fit.solve({ index: 0, value: 0.25, error: 0.1 });
    expect(coefficients[0]).toBe(0.25);
    expect(errors[0]).toBe(0.1);
    expect(coefficients[1]).toBeCloseTo(3, 4);
  });

  test("is not surer than what was thought of the observations before them", () => {
    fc.assert(
      fc.property(cost, fc.double({ min: 0.1, max: 10, noNaN: true }), (paid, error) => {
        // Two observations of two inputs leave nothing unexplained.
        const [free, expected] = [new LeastSquares(2, 1), new LeastSquares(2, 1)];
        for (const fit of [free, expected])
          for (const inputs of [
            [1, 2],
            [3, 1],
          ])
            fit.observe(inputs, paid * (inputs[0] as number), 1);
        expected.expect(error * error, 4);
        const belief = { index: 0, value: 0, error: 0.001 * error };
        expect(free.solve(belief).errors[0]).toBeLessThan(0.01 * error);
        expect(expected.solve().errors[0]).toBeGreaterThan(0.1 * error);
        expect(expected.solve(belief).coefficients[0]).toBeLessThan(0.1 * paid);
      }),
      { numRuns: 100 },
    );
  });
});
