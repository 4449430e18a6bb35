// The laws of METERING.md 4 for any input: states sum to wall, shares to one, joules to the counter, tokens are conserved,
// nothing is negative, nothing throws; and the order in which readings arrive does not matter.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CorrelatorOptions } from "../../agent/correlate/correlator.ts";
import { Correlator } from "../../agent/correlate/correlator.ts";
import type { GpuInfo, GpuSample, SettledInterval } from "../../agent/model.ts";
import type { Event } from "./any-input.ts";
import { event, inventories, ms, sample, servers } from "./any-input.ts";
import { second, sum } from "./scene.ts";

function correlator(more: Partial<CorrelatorOptions> = {}): Correlator {
  const made = new Correlator({ origin: 0, intervalNanos: second, gpuPollMs: 500, strict: true, ...more });
  made.setGpus(inventories[0] as GpuInfo[], 0);
  made.setServers(servers, 0);
  return made;
}

/** Hands events in by the tick they fall in (impossible times at once) and settles at every tick. */
function play(events: readonly Event[], made: Correlator, end = 20): SettledInterval[] {
  const intervals: SettledInterval[] = [];
  let after = -Infinity;
  for (let tick = 1; tick <= end; tick++) {
    const now = tick * second;
    for (const { at, give } of events)
      if ((at > after && at <= now) || (tick === 1 && !Number.isFinite(at))) give(made);
    after = now;
    intervals.push(...made.settle(now));
  }
  for (const { at, give } of events) if (at > after && Number.isFinite(at)) give(made);
  intervals.push(...made.finish(end * second));
  return intervals;
}

function booked(intervals: readonly SettledInterval[]): number {
  return sum(intervals.flatMap(({ gpus }) => gpus.flatMap((row) => Object.values(row.millijoules))));
}

describe("for any readings", () => {
  test("intervals follow each other, every amount is an integer of 0 or more, tokens are conserved", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 120, size: "max" }), (events) => {
        const intervals = play(events, correlator());
        let reached = 0;
        for (const { from, to, gpus, servers: rows, violations } of intervals) {
          expect([from, to > from || gpus.length === 0, violations]).toEqual([reached, true, []]);
          reached = to;
          for (const row of gpus) {
            const amounts = [
              row.nanos,
              row.millijoules,
              ...row.residents.flatMap((share) => [share.nanos, share.millijoules]),
            ];
            const all = [
              ...amounts.flatMap((record) => Object.values(record)),
              row.busyNanos,
              row.rejectedMillijoules,
            ];
            expect(all.filter((amount) => !(Number.isSafeInteger(amount) && amount >= 0))).toEqual([]);
            for (const field of ["nanos", "millijoules"] as const) {
              const { other, parked, stalled, token_active } = row[field];
              const shared = sum(row.residents.flatMap((share) => Object.values(share[field])));
              const held = token_active + stalled + parked;
              // What a metered server holds idle while an unknown process works is shared too.
              expect(shared >= held && shared <= held + other).toBe(true);
            }
          }
          for (const { nanos } of rows) expect(sum(Object.values(nanos))).toBeLessThanOrEqual(to - from);
        }
        expect(reached).toBe(20 * second);
        const counted = intervals.flatMap((interval) => interval.servers.flatMap((row) => row.increments));
        expect(sum(counted.map(({ tokens }) => tokens.output ?? 0))).toBe(
          sum(events.map(({ tokens = 0 }) => tokens)),
        );
      }),
      { numRuns: 60 },
    );
  });

  test("all joules of the accepted counter and of integrated windows are booked, once", () => {
    // What a counter did before the first interval is nobody's.
    const steady = fc.array(
      sample
        .filter(({ at }) => !(at < 0))
        .map((reading) => ({ ...reading, gpu: reading.gpu === "h" ? "h" : "g" })),
      { maxLength: 80, size: "max" },
    );
    fc.assert(
      fc.property(steady, (samples) => {
        const made = correlator();
        const events = samples.map(
          (reading): Event => ({ kind: "gpu", at: reading.at, give: (to) => to.acceptGpu(reading) }),
        );
        const intervals = play(events, made);
        const meters = Object.values(made.status().energy);
        expect(booked(intervals)).toBe(
          sum(
            meters.map(
              ({ acceptedMillijoules, integratedMillijoules }) => acceptedMillijoules + integratedMillijoules,
            ),
          ),
        );
        expect(sum(intervals.flatMap(({ gpus }) => gpus.map((row) => row.rejectedMillijoules)))).toBe(
          sum(meters.map(({ rejectedMillijoules }) => rejectedMillijoules)),
        );
      }),
      { numRuns: 60 },
    );
  });

  test("a plausible counter is booked to the millijoule, gaps and forced settling included", () => {
    const step = fc.record({
      after: fc.integer({ min: 50, max: 6000 }),
      watts: fc.integer({ min: 0, max: 700 }),
      gap: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 1, max: 4 }),
        (steps, parts) => {
          const made = correlator();
          let [at, energy] = [0, 1000];
          const events: Event[] = [];
          const add = (gap: boolean): void => {
            const reading: GpuSample = { gpu: "g", at, energyMillijoules: energy };
            if (gap)
              events.push({
                kind: "gap",
                at: at - 1,
                give: (to) => to.acceptGap({ source: "gpu:g", at: reading.at - 1, reason: "x" }),
              });
            events.push({ kind: "gpu", at, give: (to) => to.acceptGpu(reading) });
          };
          add(false);
          for (const { after, watts, gap } of steps) {
            at += after * ms;
            energy += Math.round((watts * after) / parts);
            add(gap);
          }
          const intervals = play(events, made, Math.ceil(at / second) + 1);
          expect(booked(intervals)).toBe(energy - 1000);
        },
      ),
      { numRuns: 150 },
    );
  });

  test("the order in which the readings of a second arrive does not matter", () => {
    // Instants are whole nanoseconds: a fraction apart is one instant twice.
    const distinct = fc.uniqueArray(event, {
      maxLength: 80,
      size: "max",
      selector: ({ at }) => Math.round(at),
    });
    fc.assert(
      fc.property(distinct, fc.infiniteStream(fc.nat()), (events, keys) => {
        // A server's failed poll has no instant of its own: it comes after the polls it came after.
        const fixed = events.filter(
          ({ kind, at }) => Number.isFinite(at) && kind !== "inventory" && kind !== "failure",
        );
        const shuffled = fixed
          .map((entry) => ({ entry, key: keys.next().value as number }))
          .sort((left, right) => left.key - right.key)
          .map(({ entry }) => entry);
        const sorted = [...fixed].sort((left, right) => left.at - right.at);
        const plain = (intervals: readonly SettledInterval[]) =>
          intervals.map(({ lateSamples, servers: rows, ...rest }) => ({
            ...rest,
            servers: rows.map(({ increments, ...row }) => ({
              ...row,
              tokens: sum(increments.map(({ tokens }) => tokens.output ?? 0)),
            })),
          }));
        expect(plain(play(shuffled, correlator()))).toEqual(plain(play(sorted, correlator())));
      }),
      { numRuns: 40 },
    );
  });

  test("an interval that waits for a server is looked at when something may have changed, a second later at most", () => {
    // A gap of no GPU says nothing, and is reason enough to look.
    const lookAgain = (made: Correlator): void => made.acceptGap({ source: "gpu:none", at: 0, reason: "x" });
    fc.assert(
      fc.property(fc.array(event, { maxLength: 50, size: "max" }), (events) => {
        const timed = events
          .filter(({ at }) => at >= 0 && at <= 20 * second)
          .sort((left, right) => left.at - right.at);
        for (let count = 1; count <= timed.length; count++) {
          const [patient, eager] = [correlator(), correlator()];
          for (const { at, give } of timed.slice(0, count))
            for (const made of [patient, eager]) {
              give(made);
              made.settle(at);
            }
          const until = timed[count]?.at ?? 30 * second;
          lookAgain(eager);
          const found = eager.settle(until).map(({ to }) => to);
          // Nothing was read since, which could be a reason to wait.
          const then = patient.settle(until + second).map(({ to }) => to);
          expect(then.slice(0, found.length)).toEqual(found);
        }
      }),
      { numRuns: 25 },
    );
  });
});
