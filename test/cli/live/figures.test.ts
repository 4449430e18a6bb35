// Live figures and a replay's totals count what engines made, once: a gateway in front of them counts the same tokens again.
import { expect, test } from "vitest";
import { LiveFigures } from "../../../agent/cli/live/figures.ts";
import { screenLine } from "../../../agent/cli/live/line.ts";
import { ReplayTotals } from "../../../agent/cli/replay/lines.ts";
import { summaryText } from "../../../agent/cli/replay/summary.ts";
import { h100, intervalOf, moved } from "../../meter/fixtures.ts";

const interval = intervalOf({
  from: 0,
  to: 1,
  seconds: { token_active: 0.5, parked: 0.5 },
  joules: { token_active: 100, parked: 50 },
  increments: [
    moved({ tokens: { output: 300, input_unsplit: 150 } }),
    moved({ server: "g", family: "gateway", tokens: { output: 300, input_unsplit: 150 } }),
    moved({ late: true, tokens: { output: 1000 } }),
    moved({ elsewhere: true, tokens: { output: 2000 } }),
  ],
});

test("LiveFigures leave out a gateway's tokens, late ones and those of other hosts, for the host and for a GPU", () => {
  const figures = new LiveFigures();
  figures.addInterval(interval);
  for (const row of [figures.host(), figures.gpu(h100, undefined)]) {
    expect(row).toMatchObject({ tokensPerSecond: 450, tokensPerGpuHour: 450 * 3600, tokensPerJoule: 3 });
  }
});

test("a token-active share never stands alone: what capacity was used is said to be not known", () => {
  const totals = new ReplayTotals();
  totals.addInterval(interval);
  expect(summaryText(totals.line(), 1)).toMatch(
    /token_active_utilization +0\.500\ncapacity_utilization +not known/,
  );
});

test("what rests on an assumption is summed by the reason, and said in words; nothing is where all is sure", () => {
  const totals = new ReplayTotals();
  totals.addInterval(interval);
  expect(totals.line()).toMatchObject({ uncertain: {} });
  expect(summaryText(totals.line(), 1)).not.toContain("uncertain");
  const parts = [
    { reason: "unread_page", server: "g", nanos: 2_500_000_000, millijoules: 0 },
    { reason: "equal_watts", nanos: 0, millijoules: 40_000 },
    { reason: "unread_page", server: "h", nanos: 500_000_000, millijoules: 2000 },
  ] as const;
  totals.addInterval({
    ...interval,
    gpus: interval.gpus.map((gpu) => ({ ...gpu, uncertain: parts })),
  });
  const each = interval.gpus.length;
  expect(totals.line()).toMatchObject({
    uncertain: {
      unread_page: { gpu_seconds: 3 * each, energy_joules: 2 * each },
      equal_watts: { gpu_seconds: 0, energy_joules: 40 * each },
    },
  });
  expect(summaryText(totals.line(), 1)).toMatch(
    /\nuncertain, [\d.]+ GPU-seconds and \d+ joules: the server was not read .*\nuncertain, \d+ joules: energy is shared/,
  );
});

test("a line has no rate of tokens before a server was read twice, and none is 0", () => {
  const figures = new LiveFigures();
  figures.addInterval(interval);
  const screen = { elapsedSeconds: 1, gpus: [figures.gpu(h100, undefined)], host: figures.host() };
  const unknown = { tokens_per_second: null, tokens_per_gpu_hour: null, tokens_per_joule: null };
  expect(JSON.parse(screenLine({ ...screen, isCounted: false }, {}))).toMatchObject({
    ...unknown,
    gpus: [unknown],
  });
  const known = { tokens_per_second: 450, tokens_per_joule: 3 };
  expect(JSON.parse(screenLine({ ...screen, isCounted: true }, {}))).toMatchObject({
    ...known,
    gpus: [known],
  });
});

test("ReplayTotals agree, and still name what each server counted", () => {
  const totals = new ReplayTotals();
  totals.addInterval(interval);
  expect(totals.line()).toMatchObject({
    kpis: { tokens_per_gpu_hour: 450 * 3600, tokens_per_joule: 3 },
    servers: { g: { input_tokens: 150, output_tokens: 300 } },
  });
});

test.each([0, 0.5])(
  "time of which nothing says whether tokens moved is not idle time (%d of it known)",
  (known) => {
    const silent = intervalOf({ from: 0, to: 1, seconds: { parked: 1 } });
    const unknown = {
      ...silent,
      gpus: silent.gpus.map((gpu) => ({ ...gpu, activityMethod: "unknown" as const })),
    };
    const told = intervalOf({ from: 1, to: 1 + known, seconds: { token_active: known } });
    const figures = new LiveFigures();
    const totals = new ReplayTotals();
    for (const one of known === 0 ? [unknown] : [unknown, told]) {
      figures.addInterval(one);
      totals.addInterval(one);
    }
    const share = known === 0 ? undefined : 1;
    for (const row of [figures.host(), figures.gpu(h100, undefined)])
      expect(row.tokenActiveUtilization).toBe(share);
    expect(totals.line()).toMatchObject({ kpis: { token_active_utilization: share ?? null } });
  },
);
