// Facility energy is modelled from what is measured and configured, and from nothing else.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { HostMeter } from "../../agent/daemon/host-energy.ts";
import { hostConfig } from "../../agent/host/config.ts";
import type { Posting } from "../../agent/model.ts";
import { systemClock, virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { intervalOf } from "../meter/fixtures.ts";

/** Facility millijoules of an interval of 760 J of GPU energy on a host whose own power cannot be read. */
function facility(factors: Parameters<typeof hostConfig.parse>[0]): readonly number[] {
  const posted: Posting[] = [];
  const books = {
    bookPostings: (postings: readonly Posting[]) => void posted.push(...postings),
    observe: () => {},
  };
  const context = { clock: virtualClock(0n), log: silentLog, signal: new AbortController().signal };
  const meter = new HostMeter(context, hostConfig.parse(factors), books);
  meter.bookInterval(intervalOf({ from: 0, to: 1, joules: { token_active: 700, parked: 60 } }));
  expect(new Set(posted.map(({ metric }) => metric))).toEqual(
    new Set(posted.length === 0 ? [] : ["tokenwatt.facility.energy"]),
  );
  return posted.map(({ amount }) => amount);
}

test("HostMeter models the facility from GPU energy, the host's overhead and the site's factor", () => {
  expect(facility({ pue: 1.5, hostOverhead: 1.25 })).toEqual([1_425_000]);
});

test("HostMeter books no facility energy where a factor is not configured", () => {
  expect(facility({ pue: 1.5 })).toEqual([]);
  expect(facility({ hostOverhead: 1.25 })).toEqual([]);
  expect(facility({})).toEqual([]);
});

test("HostMeter prefers what the node itself draws to what its GPUs do", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-ipmi-"));
  const ipmitool = join(folder, "ipmitool");
  writeFileSync(ipmitool, "#!/bin/sh\necho 'Instantaneous power reading: 1000 Watts'\n", { mode: 0o755 });
  const sums = new Map<string, number>();
  const books = {
    bookPostings: (postings: readonly Posting[]) => {
      for (const { amount, metric } of postings) sums.set(metric, (sums.get(metric) ?? 0) + amount);
    },
    observe: () => {},
  };
  const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
  const config = hostConfig.parse({
    pue: 1.2,
    hostOverhead: 2,
    power: { source: "ipmi", ipmitool, intervalMs: 1000 },
  });
  const meter = new HostMeter(context, config, books);
  const stop = meter.start();
  await expect.poll(() => sums.size, { timeout: 10_000 }).toBe(2);
  stop();
  meter.bookInterval(intervalOf({ from: 0, to: 1, joules: { token_active: 1e6 } }));
  const [node = 0, facility = 0] = ["hw.host.energy", "tokenwatt.facility.energy"].map((name) =>
    sums.get(name),
  );
  expect(Math.abs(facility - node * 1.2)).toBeLessThanOrEqual(1);
  rmSync(folder, { recursive: true });
});
