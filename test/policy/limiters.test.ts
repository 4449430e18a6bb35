// What rate limiters say of their limits: real pages, and the law that what is booked is what was decided since the first
// look, whatever order counters of a page are read in and however often the process is started again.
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { parsePage } from "../../agent/page/parse.ts";
import { LimiterCounts } from "../../agent/policy/limiters/counts.ts";
import { envoyRatelimit } from "../../agent/policy/limiters/envoy-ratelimit.ts";
import { limitador } from "../../agent/policy/limiters/limitador.ts";
import type { LimiterType } from "../../agent/policy/limiters/limiter.ts";
import { limitersPage } from "../../agent/policy/limiters/shown.ts";

/** The counts of a limiter whose first page is `before`, after these. */
function countsOf(type: LimiterType, before: string, ...pages: readonly string[]): LimiterCounts {
  const counts = new LimiterCounts(type);
  for (const text of [before, ...pages, pages.at(-1) ?? before]) {
    const { samples } = parsePage(Buffer.from(text));
    expect(counts.recognises(samples)).toBe(true);
    counts.take(samples);
    counts.takeMoved();
  }
  return counts;
}

function limits(counts: LimiterCounts): unknown {
  const one = { name: "l", type: "t", sinceMillis: 0, readMillis: 0, failure: undefined };
  return limitersPage([{ ...one, totals: counts.totals }], true)[0]?.["limits"];
}

test("a page of envoyproxy/ratelimit: what a shadow let through is not limited, what was before the first look is not counted", () => {
  const page = readFileSync(
    new URL("../fixtures/limiters/envoy-ratelimit-2026-01.prom", import.meta.url),
    "utf8",
  );
  const idle = page.split("\n").filter((line) => !line.includes("rate_limit_"));
  expect(limits(countsOf(envoyRatelimit, idle.join("\n"), page))).toEqual([
    { limit: "w0/tenant", hits: { allow: 5, limit: 7 } },
    { limit: "w1/tenant", hits: { allow: 5, would_limit: 5 } },
    { limit: "w0/route/model", hits: { allow: 80, limit: 20 } },
  ]);
  expect(limits(countsOf(envoyRatelimit, page, page))).toEqual([]);
  // Another run of the process began at zero, even where its counters are above the last page's.
  const again = page.replace("1.79594651969e+09", "1.79594659999e+09");
  expect(limits(countsOf(envoyRatelimit, page, again))).toEqual(
    limits(countsOf(envoyRatelimit, idle.join("\n"), page)),
  );
});

test("keys are told in their order, and a mapping with more of them names more", () => {
  const labels = { key10: "j", key2: "b", domain: "d", key1: "a", instance: "x" };
  expect(envoyRatelimit.limitOf(labels)).toBe("d/a/b/j");
});

test("a page of Limitador: calls by namespace, and by the limit's name where it tells it; other labels are summed", () => {
  const up = "limitador_up 1\n";
  const page = `${up}authorized_calls{limitador_namespace="llm"} 12
authorized_hits{limitador_namespace="llm"} 480
limited_calls{limitador_namespace="llm",limit_name="per user",user="a"} 2
limited_calls{limitador_namespace="llm",limit_name="per user",user="b"} 3
limited_calls{limitador_namespace="llm",limit_name=""} 1
`;
  expect(limits(countsOf(limitador, up, page))).toEqual([
    { limit: "llm", calls: { allow: 12, limit: 1 }, hits: { allow: 480 } },
    { limit: "llm/per user", calls: { limit: 5 } },
  ]);
});

test("a page of something else is none of a limiter; limits over the cap are one", () => {
  const { samples } = parsePage(Buffer.from("vllm:prompt_tokens_total 1\n"));
  for (const type of [envoyRatelimit, limitador])
    expect(new LimiterCounts(type).recognises(samples)).toBe(false);
  const series = Array.from({ length: 300 }, (_, n) => `limited_calls{limitador_namespace="n${n}"} 2\n`);
  const { totals } = countsOf(limitador, "limitador_up 1\n", series.join(""));
  expect(totals).toHaveLength(201);
  expect(totals.find(({ limit }) => limit === "other")?.amount).toBe(200);
  expect(
    limitersPage([{ name: "l", type: "t", sinceMillis: 0, readMillis: 0, failure: "f", totals }], false),
  ).toEqual([
    {
      name: "l",
      type: "t",
      since: "1970-01-01T00:00:00.000Z",
      read: "1970-01-01T00:00:00.000Z",
      failure: "f",
      limits: [],
    },
  ]);
});

test("what is booked is what was decided since the first look: counters of a page may lag, the process may begin again", () => {
  const amounts = fc.record({
    allow: fc.nat(50),
    over: fc.nat(50),
    shadow: fc.nat(50),
    /** Which counters the page shows late. */
    late: fc.record({ over: fc.boolean(), shadow: fc.boolean() }),
    restart: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(amounts, { minLength: 1, maxLength: 20 }), (steps) => {
      const counts = new LimiterCounts(envoyRatelimit);
      const pageOf = (run: number, allow: number, over: number, shadow: number): string => {
        const line = (name: string, value: number): string =>
          value === 0 ? "" : `ratelimit_service_rate_limit_${name}{domain="d",key1="k"} ${value}\n`;
        const lines = [line("within_limit", allow), line("over_limit", over), line("shadow_mode", shadow)];
        return `process_start_time_seconds ${run}\nratelimit_service_config_load_success 1\n${lines.join("")}`;
      };
      const booked = { allow: 0, limit: 0, would_limit: 0 };
      const look = (page: string): void => {
        counts.take(parsePage(Buffer.from(page)).samples);
        for (const { amount, decided } of counts.takeMoved()) {
          expect(amount).toBeGreaterThan(0);
          booked[decided] += amount;
        }
      };
      look(pageOf(1, 7, 5, 3));
      let [run, allow, over, shadow] = [1, 7, 5, 3];
      const decided = { allow: 0, limit: 0, would_limit: 0 };
      for (const step of steps) {
        if (step.restart) {
          look(pageOf(run, allow, over, shadow));
          look(pageOf(run, allow, over, shadow));
          [run, allow, over, shadow] = [run + 1, 0, 0, 0];
        }
        const [overBefore, shadowBefore] = [over, shadow];
        allow += step.allow;
        over += step.over + step.shadow;
        shadow += step.shadow;
        decided.allow += step.allow;
        decided.limit += step.over;
        decided.would_limit += step.shadow;
        look(
          pageOf(run, allow, step.late.over ? overBefore : over, step.late.shadow ? shadowBefore : shadow),
        );
        for (const of of ["allow", "limit", "would_limit"] as const)
          expect(booked[of]).toBeLessThanOrEqual(decided[of]);
      }
      // A whole less its parts is known with the page after it.
      look(pageOf(run, allow, over, shadow));
      look(pageOf(run, allow, over, shadow));
      expect(booked).toEqual(decided);
    }),
    { numRuns: 100 },
  );
});

test("a series that a page leaves out, or shows an impossible value of, goes on where it was", () => {
  const shown = fc.constantFrom("whole", "absent", "-3", "1e300", "9007199254740993");
  const page = fc.record({ more: fc.nat({ max: 50 }), shown, other: shown });
  fc.assert(
    fc.property(
      fc.nat({ max: 1_000_000 }),
      fc.array(page, { minLength: 1, maxLength: 12 }),
      (before, pages) => {
        const counts = new LimiterCounts(limitador);
        const line = (name: string, value: number, how: string): string => {
          if (how === "absent") return "";
          const shownValue = how === "whole" ? String(value) : how;
          return `authorized_calls{limitador_namespace="${name}"} ${shownValue}\n`;
        };
        const take = (a: string, b: string): void =>
          counts.take(parsePage(Buffer.from(`limitador_up 1\n${a}${b}`)).samples);
        let [value, other] = [before, 2 * before];
        take(line("a", value, "whole"), line("b", other, "whole"));
        for (const one of [...pages, { more: 0, shown: "whole", other: "whole" }]) {
          value += one.more;
          other += 3 * one.more;
          take(line("a", value, one.shown), line("b", other, one.other));
        }
        counts.takeMoved();
        const moved = Object.fromEntries(counts.totals.map(({ amount, limit }) => [limit, amount]));
        expect([moved["a"] ?? 0, moved["b"] ?? 0]).toEqual([value - before, other - 2 * before]);
      },
    ),
  );
});
