// slo.ts: bounds that hold whatever the requests were, checked against requests that are known.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { goodput, metBounds } from "../../../agent/meter/figures/slo.ts";
import type { Histogram } from "../../../agent/model.ts";

function histogramOf(values: readonly number[], bounds: readonly number[]): Histogram {
  const counts = [...bounds, Number.POSITIVE_INFINITY].map(() => 0);
  for (const value of values) {
    const bucket = [...bounds, Number.POSITIVE_INFINITY].findIndex((bound) => value <= bound);
    counts[bucket] = (counts[bucket] ?? 0) + 1;
  }
  return { bounds, counts, sum: values.reduce((sum, value) => sum + value, 0), count: values.length };
}

describe("metBounds()", () => {
  it("is exact at a bound and bounded by the bucket between", () => {
    const histogram = histogramOf([0.05, 0.15, 0.25, 9], [0.1, 0.2, 0.3]);
    expect(metBounds(histogram, 0.2)).toEqual({ min: 2, max: 2, requests: 4 });
    expect(metBounds(histogram, 0.25)).toEqual({ min: 2, max: 3, requests: 4 });
    expect(metBounds(histogram, 100)).toEqual({ min: 3, max: 4, requests: 4 });
  });
});

describe("goodput()", () => {
  const bounds = [0.1, 0.2, 0.5, 1];
  const objective = { name: "chat", seconds: { time_to_first_token: 0.2, request_duration: 0.7 } };

  it("bounds the requests that met every part, for any requests", () => {
    const request = fc.record({
      ttft: fc.double({ min: 0, max: 2, noNaN: true }),
      total: fc.double({ min: 0, max: 2, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: 60 }), (requests) => {
        const met = goodput(objective, {
          time_to_first_token: histogramOf(
            requests.map((one) => one.ttft),
            bounds,
          ),
          request_duration: histogramOf(
            requests.map((one) => one.total),
            bounds,
          ),
        });
        const truth = requests.filter((one) => one.ttft <= 0.2 && one.total <= 0.7).length;
        expect(met?.min).toBeLessThanOrEqual(truth);
        expect(met?.max).toBeGreaterThanOrEqual(truth);
      }),
    );
  });
  it("says nothing where a latency of the objective is not observed", () => {
    expect(goodput(objective, { time_to_first_token: histogramOf([0.1], bounds) })).toBeUndefined();
  });
});
