// Zones as pieces of offsets, against the time zone database that Node has: at any instant both say the same.
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { zoneOf } from "../../deploy/prometheus/calendar-rules.ts";

const FROM = Date.UTC(2025, 0, 1) / 1000;
const TO = Date.UTC(2032, 0, 1) / 1000;
const zones = [
  "UTC",
  "Europe/Berlin",
  "America/New_York",
  "Asia/Kolkata",
  "Australia/Lord_Howe",
  "America/St_Johns",
];

test.each(zones)("%s is ahead of UTC by what the time zone database says", (name) => {
  const { pieces } = zoneOf(name, FROM, TO);
  const clock = new Intl.DateTimeFormat("en-US", {
    ...{ timeZone: name, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric" },
    ...{ hour: "numeric", minute: "numeric", second: "numeric" },
  });
  fc.assert(
    fc.property(fc.integer({ min: FROM, max: TO }), (seconds) => {
      const parts = Object.fromEntries(
        clock.formatToParts(new Date(seconds * 1000)).map(({ type, value }) => [type, Number(value)]),
      ) as Record<string, number>;
      const { day = 0, hour = 0, minute = 0, month = 0, second = 0, year = 0 } = parts;
      const local = Date.UTC(year, month - 1, day, hour, minute, second) / 1000;
      expect(pieces.findLast(({ at }) => at <= seconds)?.offset).toBe(local - seconds);
    }),
    { numRuns: 300 },
  );
});
