// replayPast() where rows are gone, usage is taken back, and the ledger is in doubt: what is known is said, what is not is left out.
import { describe, expect, test } from "vitest";
import type { CutWindows, PastMovement, PastWindow } from "../../agent/policy/past.ts";
import { pastStart, replayPast } from "../../agent/policy/past.ts";
import { gatewaySeries, policyWith } from "./fixtures.ts";

const DAY = 86_400_000;
const QUARTER = 900_000;
const MONDAY = Date.parse("2026-11-02T00:00:00Z");
const series = gatewaySeries("acme");

function moved(from: number, amount: number, length = QUARTER): PastMovement {
  return {
    metric: "tokenwatt.gateway.tokens",
    dimensions: series,
    amount: BigInt(amount),
    from,
    to: from + length,
  };
}

function replay(
  quota: Readonly<Record<string, unknown>>,
  movements: readonly PastMovement[],
  more: { readonly zone?: string; readonly doubtedAt?: readonly number[]; readonly isFed?: boolean } = {},
): { readonly windows: readonly PastWindow[]; readonly cut: readonly CutWindows[] } {
  const { quotas } = policyWith([quota], { timeZone: more.zone ?? "UTC" });
  const windows: PastWindow[] = [];
  const frame = {
    ...{ from: MONDAY, to: MONDAY + 7 * DAY, heldFrom: MONDAY - 60 * DAY, heldTo: MONDAY + 7 * DAY },
    doubtedAt: more.doubtedAt ?? [],
    isFed: () => more.isFed ?? true,
  };
  const cut = replayPast(quotas, movements, frame, (one) => windows.push(one));
  return { windows, cut };
}

describe("replayPast()", () => {
  test("counts whole days where their rows are gone, and knows the day in which a limit was reached", () => {
    const days = [0, 1, 2].map((day) => moved(MONDAY + day * DAY, 400, DAY));
    const { cut, windows } = replay({ per: "week", limit: 1000, warnAt: [0.5] }, days);
    expect(cut).toEqual([]);
    expect(windows).toMatchObject([{ used: 1200n, state: "over", ended: true }]);
    expect(windows[0]?.reached).toEqual([
      { share: 0.5, from: MONDAY + DAY, to: MONDAY + 2 * DAY },
      { share: 1, from: MONDAY + 2 * DAY, to: MONDAY + 3 * DAY },
    ]);
  });

  test("leaves out windows whose edges lie inside such a day, and goes on where rows are kept", () => {
    const movements = [moved(MONDAY, 400, DAY), moved(MONDAY + DAY, 400, DAY), moved(MONDAY + 3 * DAY, 5)];
    const { cut, windows } = replay({ per: "day", match: { tenant: "*" } }, movements, {
      zone: "Asia/Kathmandu",
    });
    const first = MONDAY - 5.75 * 3_600_000;
    expect(cut).toMatchObject([{ windows: 3, from: first, to: first + 3 * DAY }]);
    expect(windows.map(({ used, window }) => [window.from, used])).toEqual([[first + 3 * DAY, 5n]]);
    expect(replay({ per: "hour" }, [moved(MONDAY, 1, DAY)]).cut).toMatchObject([{ windows: 24 }]);
  });

  test("gives back what is taken back: a limit that was reached stays on record, and used is never below 0", () => {
    const movements = [moved(MONDAY, 1000), moved(MONDAY + QUARTER, -900), moved(MONDAY + DAY, -5)];
    const { windows } = replay({ per: "day" }, movements);
    expect(windows.slice(0, 2)).toMatchObject([
      { used: 100n, state: "ok" },
      { used: 0n, state: "ok" },
    ]);
    expect(windows[0]?.reached.at(-1)).toEqual({ share: 1, from: MONDAY, to: MONDAY + QUARTER });
  });

  test("is never ok where the ledger is in doubt, and has no value where nothing counts", () => {
    const doubtedAt = [MONDAY + DAY + 5];
    const states = replay({ per: "day" }, [moved(MONDAY, 1)], { doubtedAt }).windows.map(
      ({ state }) => state,
    );
    expect(states).toEqual(["ok", "unknown", "ok", "ok", "ok", "ok", "ok"]);
    expect(replay({ per: "week" }, [], { isFed: false }).windows).toMatchObject([
      { used: undefined, state: "unknown" },
    ]);
  });

  test("counts a window that begins before the frame from its start, and tells from when that is", () => {
    const { quotas } = policyWith([{ per: "month" }, { per: "week" }]);
    const start = pastStart(quotas, MONDAY);
    expect(start).toBe(Date.parse("2026-11-01T00:00:00Z"));
    const { windows } = replay({ per: "month" }, [moved(start, 7), moved(MONDAY, 1)]);
    expect(windows).toMatchObject([{ used: 8n, ended: false }]);
  });
});
