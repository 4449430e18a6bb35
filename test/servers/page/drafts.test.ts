// drafts.ts against a map by names: what is remembered of label sets and lists is never another page's, however many
// objects say the same labels, and however many customers pass.
import fc from "fast-check";
import { expect, test } from "vitest";
import { PageDrafts } from "../../../agent/servers/page/drafts.ts";
import type { Labels } from "../../../agent/servers/page/labels.ts";

const OPTIONS = { modelLabel: "model", tenantLabel: "team" };
/** Objects of their own: every fourth says what one before says. */
const LABELS: readonly Labels[] = Array.from({ length: 16 }, (_, place) => ({
  model: `m${place % 2}`,
  team: `t${place % 4}`,
  other: String(place),
}));
const place = fc.nat(LABELS.length - 1);
const LISTS = [
  [0, 1, 2, 3],
  [4, 5, 9],
  [15, 3, 3, 8],
].map((places) => places.map((at) => ({ labels: LABELS[at] as Labels, value: at + 1 })));

const step = fc.oneof(
  fc.record({ kind: fc.constant("one" as const), place, amount: fc.nat(1000) }),
  fc.record({ kind: fc.constant("list" as const), list: fc.nat(LISTS.length - 1) }),
  fc.record({ kind: fc.constant("passing" as const), tenant: fc.nat(1_000_000) }),
);

test("PageDrafts sums by names, each page from nothing, in the order in which names were met", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(step, { size: "max", maxLength: 20 }), { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      (pages, isForgotten) => {
        const options = { ...OPTIONS };
        for (const steps of pages) {
          const drafts = new PageDrafts(options);
          const wanted = new Map<string, number>();
          const add = (labels: Labels, amount: number): void => {
            const key = JSON.stringify([labels["model"] ?? null, labels["team"] ?? null, null]);
            wanted.set(key, (wanted.get(key) ?? 0) + amount);
          };
          for (const one of steps) {
            if (one.kind === "one") {
              const labels = LABELS[one.place] as Labels;
              drafts.of(labels).tokens("output", one.amount);
              add(labels, one.amount);
            } else if (one.kind === "passing") {
              const labels = { model: "m0", team: String(one.tenant) };
              drafts.of(labels).tokens("output", 1);
              add(labels, 1);
            } else {
              const list = LISTS[one.list] as (typeof LISTS)[number];
              for (const [at, making] of drafts.ofAll(list as never).entries()) {
                const { labels, value } = list[at] as (typeof list)[number];
                drafts.at(making).tokens("output", value);
                add(labels, value);
              }
            }
          }
          const found = drafts
            .finish()
            .map(({ identity, tokensByKind }) => [identity.key, tokensByKind.output]);
          expect(found).toEqual([...wanted]);
          // A page that was given up half-way.
          const unfinished = new PageDrafts(options);
          for (const labels of LABELS) unfinished.of(labels).tokens("output", 7);
          // So many that came once that what is remembered begins anew.
          const many = new PageDrafts(options);
          for (let tenant = 0; isForgotten && tenant < 1200; tenant++)
            many.of({ model: "x", team: `p${tenant}` });
        }
      },
    ),
    { numRuns: 60 },
  );
});
