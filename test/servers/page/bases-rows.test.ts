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
