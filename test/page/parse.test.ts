import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createPageParser, parsePage } from "../../agent/page/parse.ts";
import { parsedNumber, parseNumber } from "../../agent/page/parse-number.ts";
import type { MetricPage } from "../../agent/source.ts";
import { vllmPage } from "../bench/lib/text-page.ts";

const fixtures = fileURLToPath(new URL("../fixtures/servers", import.meta.url));
const pages = readdirSync(fixtures)
  .filter((name) => name.endsWith(".prom"))
  .map((name) => readFileSync(`${fixtures}/${name}`));

/** A page as plain data, in the order of the page. */
function plain(page: MetricPage): [string, Record<string, string>, number][] {
  return [...page.samples.values()].flat().map((sample) => [sample.name, { ...sample.labels }, sample.value]);
}
const parseText = (text: string, families?: string[]) => parsePage(Buffer.from(text), families);

describe("parseNumber()", () => {
  test.each([
    ["8.128902e+06", 8128902],
    ["1.7954209139811811e+09", 1795420913.9811811],
    ["17.0", 17],
    ["-0.5", -0.5],
    ["1E-3", 0.001],
    [".5", 0.5],
    ["9007199254740993", 9007199254740992],
    ["1e300", 1e300],
  ])("reads %s as the engine's own parser does", (text, value) => {
    expect(parseNumber(Buffer.from(`${text}\n`), 0, text.length + 1)).toBe(text.length);
    expect(parsedNumber[0]).toBe(value);
  });

  test("agrees with Number() on every finite number, however written", () => {
    const numbers = fc
      .double({ noNaN: true, noDefaultInfinity: true })
      .chain((value) =>
        fc.constantFrom(String(value), value.toExponential(), value.toPrecision(6), value.toExponential(16)),
      );
    fc.assert(
      fc.property(numbers, (text) => {
        expect(parseNumber(Buffer.from(text), 0, text.length)).toBe(text.length);
        expect(parsedNumber[0]).toBe(Number(text));
      }),
    );
  });

  test.each(["NaN", "+Inf", "-Inf", "12abc", "1e", "0x10", "1e999", "--1"])(
    "takes %s for no number",
    (text) => {
      expect(parseNumber(Buffer.from(text), 0, text.length)).toBe(text.length);
      expect(parsedNumber[0]).toBeNaN();
    },
  );
});

describe("parsePage()", () => {
  test("normalises both dialects to one name", () => {
    const classic = parseText('vllm:prompt_tokens_total{engine="0"} 1.0\n');
    const open = parseText('vllm_prompt_tokens_total{engine="0"} 1\n# EOF\n');
    expect(plain(classic)).toEqual([["vllm_prompt_tokens", { engine: "0" }, 1]]);
    expect(plain(open)).toEqual(plain(classic));
  });

  test("reads as many labels as a sample has, in their order", () => {
    for (const count of [1, 16, 17, 40]) {
      const labels = Array.from({ length: count }, (_, index) => [`label_${index}`, `value_${index}`]);
      const text = labels.map(([name, value]) => `${name}="${value}"`).join(",");
      const read = parseText(`wide{${text}} 1\n`).samples.get("wide")?.[0]?.labels ?? {};
      expect(Object.entries(read)).toEqual(labels);
    }
  });

  test("reads escapes, UTF-8, empty values, spaces and trailing commas in labels", () => {
    const page = parseText('a{ x="q\\"b\\\\n\\n", y="é", z="" , } 1 1700000000 # {t="1"} 2\nb 2\r\n');
    expect(plain(page)).toEqual([
      ["a", { x: 'q"b\\n\n', y: "é", z: "" }, 1],
      ["b", {}, 2],
    ]);
  });

  test.each(['a{x="two words",y="1"} 1', 'a{x="q\\"b",y="1"} 1', '{"a",x="1"} 1'])(
    "keeps the labels of %s as V8 keeps an object with few members",
    (text) => {
      const labels = parseText(`${text}\n`).samples.get("a")?.[0]?.labels;
      expect(Object.getPrototypeOf(labels)).toBe(Object.prototype);
    },
  );

  test("reads quoted names and a label called __proto__", () => {
    const page = parseText('{"my.metric_total",le="1"} 3\nc{__proto__="p"} 4\n');
    expect(page.samples.get("my_metric")?.[0]).toMatchObject({ value: 3 });
    expect(page.samples.get("my_metric")?.[0]?.labels["le"]).toBe("1");
    expect(Object.entries(page.samples.get("c")?.[0]?.labels ?? {})).toEqual([["__proto__", "p"]]);
    const escaped = parseText('d{"__proto_\\_"="p",x="1"} 4\n').samples.get("d")?.[0]?.labels ?? {};
    expect(Object.entries(escaped)).toEqual([
      ["__proto__", "p"],
      ["x", "1"],
    ]);
  });

  test("files nothing under the name of the line before", () => {
    const page = parseText('a{x="1"} 1\n{"b" x="2"} 2\na{x="3"} 3\n');
    expect([...page.samples.keys()]).toEqual(["a"]);
    expect(page.samples.get("a")?.map(({ value }) => value)).toEqual([1, 3]);
    expect(page.ignoredSamples).toBe(1);
    expect(page.errors).toEqual(['its name is none: {"b" x="2"} 2']);
  });

  test("skips and counts NaN, infinity and lines that cannot be read, and goes on", () => {
    const page = parseText('a NaN\nb{x="1} 2\n9z 1\nc\nd{x=y} 1\ne{"x"} 1\n\nf +Inf\ng 7\n');
    expect(plain(page)).toEqual([["g", {}, 7]]);
    expect(page.ignoredSamples).toBe(7);
    expect(page.errors).toHaveLength(5);
  });

  test("counts the first of two equal series and says so", () => {
    const page = parseText('a{x="1"} 1\na{x="2"} 5\na{x="1"} 2\n');
    expect(plain(page)).toEqual([
      ["a", { x: "1" }, 1],
      ["a", { x: "2" }, 5],
    ]);
    expect(page).toMatchObject({ ignoredSamples: 1, errors: [expect.stringContaining("twice")] });
  });

  test("never takes the value of a line that may be cut", () => {
    const parser = createPageParser();
    expect(plain(parser.parse(Buffer.from("a 1000\nb 1234\n")))).toHaveLength(2);
    const cut = parser.parse(Buffer.from("a 1001\nb 12"), "open");
    expect(plain(cut)).toEqual([["a", {}, 1001]]);
    expect(cut.errors).toEqual([expect.stringContaining("cut")]);
  });

  test("takes the last line of a page that is known to be whole, with its end or without", () => {
    const parser = createPageParser();
    for (const value of [12, 13]) {
      expect(plain(parser.parse(Buffer.from(`a 1\nb ${value}`)))).toEqual([
        ["a", {}, 1],
        ["b", {}, value],
      ]);
    }
  });

  test("reads a page behind a byte order mark, and lines that begin with blanks", () => {
    const parser = createPageParser();
    for (const value of [1, 2]) {
      const page = parser.parse(
        Buffer.from(`\ufeffa ${value}\n  b{x="y"} ${value}\n\tc ${value}\n   \n  # note\n`),
      );
      expect(page.errors).toEqual([]);
      expect(plain(page)).toEqual([
        ["a", {}, value],
        ["b", { x: "y" }, value],
        ["c", {}, value],
      ]);
    }
  });

  test("takes x beside x_total for the same counter once more", () => {
    const parser = createPageParser();
    for (const value of [1, 2]) {
      const page = parser.parse(Buffer.from(`x{m="a"} ${value}\ny ${value}\nx_total{m="a"} ${value}\n`));
      expect(plain(page)).toEqual([
        ["x", { m: "a" }, value],
        ["y", {}, value],
      ]);
    }
  });

  test("says when a page that used to end in # EOF does not", () => {
    const parser = createPageParser();
    expect(parser.parse(Buffer.from("a 1\nb 2\n# EOF\n")).errors).toEqual([]);
    expect(parser.parse(Buffer.from("a 1\n")).errors).toEqual([expect.stringContaining("# EOF")]);
    expect(parser.parse(Buffer.from("a 1\nb 2\n# EOF\n")).errors).toEqual([]);
  });

  test("keeps only wanted families, their histogram parts and start times", () => {
    const text =
      'a_total 1\na_created 5\nh_bucket{le="1"} 1\nh_sum 2\nh_count 1\nb 3\nprocess_start_time_seconds 9\n';
    expect([...parseText(text, ["a", "h"]).samples.keys()]).toEqual([
      "a",
      "a_created",
      "h_bucket",
      "h_sum",
      "h_count",
      "process_start_time_seconds",
    ]);
  });

  test("keeps families apart however their lines are interleaved", () => {
    const page = parseText(
      '# TYPE a counter\na{x="1"} 1\n# TYPE b counter\nb 2\n# TYPE a counter\na{x="2"} 3\n',
    );
    expect(page.samples.get("a")?.map((sample) => sample.value)).toEqual([1, 3]);
  });
});

describe("createPageParser()", () => {
  test("gives for any sequence of pages what a fresh parser gives for each", () => {
    const line = fc
      .record({
        name: fc.constantFrom("a", "b", "c_total", "h_bucket"),
        label: fc.constantFrom("", '{x="1"}', '{x="2"}', '{x="2",y="ü"}', "{x"),
        value: fc.oneof(fc.nat(10_000).map(String), fc.constantFrom("NaN", "1e+06", "-3", "7 123", "")),
      })
      .map(({ name, label, value }) => `${name}${label} ${value}`);
    const comment = fc.constantFrom("# TYPE a counter", "# HELP b x", "# EOF", "");
    const text = fc
      .tuple(
        fc.array(fc.oneof({ weight: 5, arbitrary: line }, comment), { maxLength: 25 }),
        fc.constantFrom("\n", ""),
      )
      .map(([lines, end]) => lines.join("\n") + end);
    fc.assert(
      fc.property(fc.array(text, { maxLength: 6 }), (texts) => {
        const parser = createPageParser(["a", "b", "c", "h"]);
        for (const each of texts) {
          const page = parser.parse(Buffer.from(each));
          const fresh = parsePage(Buffer.from(each), ["a", "b", "c", "h"]);
          expect(plain(page)).toEqual(plain(fresh));
          expect(page.ignoredSamples).toBe(fresh.ignoredSamples);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("reads a page as if the lines of families nobody wants were not there, and those put aside apart", () => {
    const line = fc
      .record({
        name: fc.constantFrom(
          "a",
          "b_total",
          "h_bucket",
          "other",
          "other_total",
          "more",
          '{"far.off",',
          "side",
          "x.y",
        ),
        label: fc.constantFrom("", '{x="1"}', '{x="2",y="two words"}', "{x", '{x="1"', " "),
        value: fc.oneof(fc.nat(999).map(String), fc.constantFrom("NaN", "+Inf", "-3", "7 123", "", "\r")),
      })
      .map(({ label, name, value }) =>
        name.startsWith("{") ? `${name}x="1"} ${value}` : `${name}${label} ${value}`,
      );
    const isOf = (...names: readonly string[]) => {
      const start = new RegExp(`^(${names.join("|")})[{ ]`);
      return (one: string) => start.test(one);
    };
    const isSide = isOf("side");
    const isOther = isOf("other", "other_total", "more", "x\\.y", '\\{"far.off",x');
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.oneof(line, fc.constantFrom("# HELP a x", "# HELP b x")), { maxLength: 25 }), {
          maxLength: 6,
        }),
        (pages) => {
          const parser = createPageParser(["a", "b", "h"], ["side"]);
          for (const lines of pages) {
            const read = parser.parse(Buffer.from(lines.map((one) => `${one}\n`).join("")));
            const wanted = lines.filter((one) => !isOther(one) && !isSide(one) && !one.startsWith('{"far'));
            const alone = parsePage(Buffer.from(wanted.map((one) => `${one}\n`).join("")), ["a", "b", "h"]);
            expect(plain(read)).toEqual(plain(alone));
            // What is put aside is read like any sample; only what it says is nobody's fault.
            const side = parsePage(
              Buffer.from(
                lines
                  .filter(isSide)
                  .map((one) => `${one}\n`)
                  .join(""),
              ),
            );
            const finite = [...read.aside.values()].flat().filter(({ value }) => !Number.isNaN(value));
            expect(finite.map(({ labels, value }) => [labels, value])).toEqual(
              plain(side).map(([, labels, value]) => [labels, value]),
            );
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test("says that a page shows what the one before did, whatever moves aside or in families nobody wants", () => {
    const parser = createPageParser(["a"], ["side"]);
    const page = (value: string) =>
      Buffer.from(`a 1\nside{t="x"} ${value}\nother{t="x"} ${value}\nother 2\n`);
    parser.parse(page("1"));
    for (const value of ["2", "+Inf", "3"]) {
      const read = parser.parse(page(value));
      expect(read).toMatchObject({ isSame: true, ignoredSamples: 0, errors: [] });
      expect(read.aside.get("side")?.[0]?.value).toBe(value === "+Inf" ? Number.NaN : Number(value));
    }
  });

  test("remembers no line of a family that nobody wants: more of them than lines can be", () => {
    const text = `${Array.from({ length: 500_001 }, (_, index) => `o{i="${index}"} 1\n`).join("")}a 7\n`;
    const parser = createPageParser(["a"]);
    for (const _round of [0, 1]) {
      const page = parser.parse(Buffer.from(text));
      expect(plain(page)).toEqual([["a", {}, 7]]);
      expect(page.errors).toEqual([]);
    }
  });

  test("believes no line of a family that nobody wants where the page may be cut in it", () => {
    const parser = createPageParser(["a"]);
    for (const end of ["o 1\no 2", "o 1", 'o{x="']) {
      const cut = parser.parse(Buffer.from(`a 1\n${end}`), "open");
      expect(plain(cut)).toEqual([["a", {}, 1]]);
      expect(cut.errors).toEqual([expect.stringContaining("cut")]);
    }
  });

  test("survives any bytes, and any recording with bytes changed, between good pages", () => {
    const parser = createPageParser();
    fc.assert(
      fc.property(
        fc.constantFrom(...pages),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 20 }),
        fc.uint8Array({ maxLength: 100 }),
        (page, changes, noise) => {
          const broken = Buffer.concat([page, noise]);
          for (const [at, byte] of changes) broken[at % broken.length] = byte;
          const read = parser.parse(broken);
          expect(read.errors.length).toBeLessThanOrEqual(11);
          for (const [, , value] of plain(read)) expect(value).not.toBeNaN();
          expect(plain(parser.parse(page))).toEqual(plain(parsePage(page)));
        },
      ),
    );
  });

  test("reads a series again after a page in which the blank before its value was missing", () => {
    const parser = createPageParser();
    const good = Buffer.from('a{x="1"} 10\nb 2\nc 3\n');
    parser.parse(Buffer.from('# x\na{x="1"}\u000010\nb 2\nc 3\n'));
    expect(plain(parser.parse(good))).toEqual(plain(parsePage(good)));
    parser.parse(Buffer.from('# x\na{x="1"}7\nb 2\nc 3\n'));
    expect(plain(parser.parse(good))).toEqual(plain(parsePage(good)));
  });

  test("follows values, new series and lost series of a large page", () => {
    const parser = createPageParser();
    for (const round of [0, 1, 2]) {
      const text = vllmPage(3000, round).split("\n");
      if (round === 1) text.splice(500, 200);
      if (round === 2) text.splice(700, 0, 'vllm:new_total{engine="0"} 5');
      const bytes = Buffer.from(text.join("\n"));
      expect(plain(parser.parse(bytes))).toEqual(plain(parsePage(bytes)));
    }
  });

  test("keeps the objects of series that stay", () => {
    const parser = createPageParser();
    const first = parser.parse(Buffer.from("a 1\nb 2\n")).samples.get("a")?.[0];
    expect(parser.parse(Buffer.from("a 9\nb 2\n")).samples.get("a")?.[0]).toBe(first);
    expect(first?.value).toBe(9);
  });

  test("forgets series that are gone for good", () => {
    const parser = createPageParser();
    for (let round = 0; round < 200; round++) {
      const lines = Array.from({ length: 100 }, (_, index) => `a{x="${round}-${index}"} 1`);
      expect(parser.parse(Buffer.from(`${lines.join("\n")}\n`)).samples.get("a")).toHaveLength(100);
    }
  });
});
