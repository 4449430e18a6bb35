// Rows of bases that say nothing that can be gone on from: the page is a first one, and what it shows is counted from there.
import { expect, test } from "vitest";
import { createPageParser } from "../../../agent/page/parse.ts";
import { SeriesBases } from "../../../agent/servers/page/bases.ts";

test.each(["", "null", "{}", "[]", '{"v":0}', '{"v":3}', '{"v":"1"}'])("a head of %j is none", (value) => {
  const bases = new SeriesBases({
    bornAtZero: false,
    rows: [{ key: '["receiver","s","bases"]', value }],
    instant: Number,
  });
  const look = { at: 5e9, epoch: undefined, began: undefined, oldest: () => undefined, whole: true };
  const page = createPageParser().parse(Buffer.from("tokens_total 7\n"), "complete");
  const counted = bases.take(page, { ...look, interrupted: undefined, instant: (seconds) => seconds * 1e9 });
  expect(counted.restarts).toBe(0);
  expect(counted.page.samples.get("tokens")).toMatchObject([{ value: 7 }]);
});

test("last values of a run that never showed a series are not said to be the counted ones", () => {
  const bases = new SeriesBases({ bornAtZero: false });
  const parser = createPageParser();
  const look = { began: undefined, oldest: () => undefined, whole: true, interrupted: undefined };
  for (const [place, text] of ['tokens_total{m="x"} 7\n', 'tokens_total{m="y"} 3\n'].entries()) {
    const page = parser.parse(Buffer.from(text), "complete");
    const given = { ...look, at: (5 + place) * 1e9, epoch: `start:${place}` };
    bases.take(page, { ...given, instant: (seconds) => seconds * 1e9 });
    bases.counters("tokens");
  }
  const rows = bases.takeChanges([], (at) => BigInt(at));
  const values = rows.find(({ key }) => key.includes("values"))?.value ?? "{}";
  const { c, r } = JSON.parse(values) as { readonly c: unknown; readonly r: Record<string, unknown> };
  expect(c).toEqual([7, 0]);
  expect(Object.values(r)).toEqual([
    [7, null],
    [null, 3],
  ]);
});
