// Seconds in no state and seconds in two: what `verify` sees of them, and what it excuses.
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { Bookkeeper, START, temporaryFolder } from "./fixture.ts";

const BUCKET = 900;

/** Books seconds of two GPUs, bucket by bucket, and says what is wrong with the ledger. */
function verdict(
  buckets: readonly { readonly a: number; readonly b: number }[],
  note?: (keeper: Bookkeeper) => void,
): string[] {
  const { folder, remove } = temporaryFolder();
  try {
    const keeper = new Bookkeeper(folder);
    note?.(keeper);
    for (const [index, { a, b }] of buckets.entries()) {
      for (const [gpu, seconds] of [
        ["GPU-a", a],
        ["GPU-b", b],
      ] as const) {
        if (seconds === 0) continue;
        const dimensions = { "hw.id": gpu, "tokenwatt.gpu.state": "free" };
        keeper.post((index + 1) * BUCKET, {
          metric: "tokenwatt.gpu.time",
          dimensions,
          amount: Math.round(seconds * 1e9),
        });
      }
      keeper.beat((index + 1) * BUCKET);
    }
    keeper.close();
    return verifyLedger(ledgerPath(folder)).problems.map(({ message, where }) => `${where}: ${message}`);
  } finally {
    remove();
  }
}

const full = { a: BUCKET, b: BUCKET };

test("verify names the bucket and GPU whose states do not fill it, and how much is missing or too much", () => {
  expect(verdict([full, full, full])).toEqual([]);
  expect(verdict([full, { a: 851.25, b: BUCKET }, full])).toEqual([
    expect.stringMatching(/^bucket .*T00:15Z, GPU GPU-a: 48\.750 s are in no state$/),
  ]);
  expect(verdict([full, { a: BUCKET, b: 901 }, full])).toEqual([
    expect.stringMatching(/^bucket .*T00:15Z, GPU GPU-b: its states sum to 1\.000 s too much$/),
  ]);
  expect(verdict([full, full, { a: 0, b: BUCKET }, full])).toEqual([
    expect.stringMatching(/^bucket .*T00:30Z, GPU GPU-a: is in no state for the whole bucket$/),
  ]);
});

test("verify claims nothing of the first and the last bucket of a GPU", () => {
  expect(verdict([{ a: 17, b: BUCKET }, full, { a: 3, b: 400 }])).toEqual([]);
});

test.each([
  [
    "gap",
    { why: "host off", from: String(START + 1_000_000_000_000n), to: String(START + 1_100_000_000_000n) },
  ],
  ["clock_step", { seconds: 120, seriesBeginAnew: false }],
  ["gpus", { gone: ["GPU-a"], come: [] }],
] as const)("verify excuses time of which the record says why: %s", (kind, body) => {
  const note = (keeper: Bookkeeper): void => keeper.books.noteAudit(kind, 1_000e9, body);
  expect(verdict([full, { a: 700, b: BUCKET }, full], note)).toEqual([]);
});

test("verify sees any second that is missing, wherever it is", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 3, max: 8 }).chain((count) =>
        fc.record({
          count: fc.constant(count),
          at: fc.integer({ min: 1, max: count - 2 }),
          missing: fc.double({ min: 0.01, max: 899, noNaN: true }),
        }),
      ),
      ({ at, count, missing }) => {
        const buckets = Array.from({ length: count }, (_, index) =>
          index === at ? { a: BUCKET - missing, b: BUCKET } : full,
        );
        expect(verdict(buckets)).toHaveLength(1);
      },
    ),
    { numRuns: 15 },
  );
});
