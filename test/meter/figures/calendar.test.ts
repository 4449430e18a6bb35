// calendar.ts: local days of 23, 24 and 25 hours and quarter-hour offsets, recomposed from 15-minute buckets.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isTimeZone, localInstant, periods } from "../../../agent/meter/figures/calendar.ts";

const utc = (text: string): number => Date.parse(text);
const hours = (zone: string, day: string): number[] => {
  const from = localInstant(utc(`${day}T00:00:00Z`), zone);
  return periods(from, from + 3 * 86_400_000, "day", zone).map((one) => (one.to - one.from) / 3_600_000);
};

describe("periods()", () => {
  it("gives the day summer time begins 23 hours and the day it ends 25", () => {
    expect(hours("Europe/Berlin", "2026-03-28").slice(0, 3)).toEqual([24, 23, 24]);
    expect(hours("America/New_York", "2026-10-31").slice(0, 2)).toEqual([24, 25]);
  });
  it("begins a day whose midnight is skipped where the clock lands", () => {
    // Beirut went from 00:00 to 01:00 on 2026-03-29.
    const from = localInstant(utc("2026-03-29T00:00:00Z"), "Asia/Beirut");
    expect(new Date(from).toISOString()).toBe("2026-03-28T22:00:00.000Z");
  });
  it("knows offsets of a quarter of an hour", () => {
    const [first] = periods(utc("2026-11-01T00:00Z"), utc("2026-11-01T02:00Z"), "hour", "Asia/Kathmandu");
    expect(first).toEqual({
      from: utc("2026-11-01T00:00Z"),
      to: utc("2026-11-01T00:15Z"),
      name: "2026-11-01T05:45+05:45",
    });
  });
  it("names local months and cuts the range at both ends", () => {
    const found = periods(utc("2026-01-31T00:00Z"), utc("2026-02-02T00:00Z"), "month", "America/Los_Angeles");
    expect(found.map((one) => one.name)).toEqual(["2026-01", "2026-02"]);
    expect(found[1]?.from).toBe(utc("2026-02-01T08:00Z"));
  });
  it("covers any range without gap or overlap, on the 15-minute grid, in any zone", () => {
    const zone = fc.constantFrom(
      "UTC",
      "Europe/Berlin",
      "Asia/Kathmandu",
      "America/St_Johns",
      "Australia/Lord_Howe",
      "Africa/Cairo",
    );
    const quarter = fc.integer({ min: 1_900_000, max: 2_200_000 }).map((bucket) => bucket * 900_000);
    fc.assert(
      fc.property(
        zone,
        quarter,
        fc.integer({ min: 1, max: 4000 }),
        fc.constantFrom("hour", "day", "month"),
        (name, from, length, unit) => {
          const to = from + length * 900_000;
          const found = periods(from, to, unit as "hour", name);
          expect(found[0]?.from).toBe(from);
          expect(found.at(-1)?.to).toBe(to);
          for (const [index, one] of found.entries()) {
            expect(one.from % 900_000).toBe(0);
            expect(one.to).toBeGreaterThan(one.from);
            if (index > 0) expect(one.from).toBe(found[index - 1]?.to);
          }
        },
      ),
      { numRuns: 40 },
    );
  });
  it("tells a zone from a typo", () => {
    expect([isTimeZone("Asia/Kathmandu"), isTimeZone("Asia/Katmandoo")]).toEqual([true, false]);
  });
});
