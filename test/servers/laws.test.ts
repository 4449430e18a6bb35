// What holds for every server type that is read by a page, on every recording: the order of lines does not matter, twice the
// counters are twice the tokens, no reading has a token the page does not have, and the split of an input adds up to it.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Role, TokenReading } from "../../agent/model.ts";
import { parsePage } from "../../agent/page/parse.ts";
import { agentgateway } from "../../agent/servers/agentgateway.ts";
import { pageReader } from "../../agent/servers/page/server.ts";
import { serverTypes } from "../../agent/servers/registry.ts";
import { sglang } from "../../agent/servers/sglang.ts";
import { readVllm, vllm } from "../../agent/servers/vllm.ts";
import type { PageReader, Unsaid } from "../../agent/source.ts";

const fixtures = fileURLToPath(new URL("../fixtures/servers", import.meta.url));
const recordings = readdirSync(fixtures).filter((name) => name.endsWith(".prom"));

interface Recorded {
  readonly name: string;
  readonly lines: readonly string[];
  readonly reader: PageReader;
  /** What a server of its kind says it never says, with nothing configured. */
  readonly unsaid: readonly Unsaid[];
}

const recorded: readonly Recorded[] = recordings.map((name) => {
  const text = readFileSync(`${fixtures}/${name}`, "utf8");
  const page = parsePage(Buffer.from(text));
  const type = serverTypes.find((each) => each.page?.recognises(page) !== undefined);
  if (type?.page === undefined) throw new Error(`${name} is recognised by none`);
  const unsaid = type.unsaid?.({} as never) ?? [];
  return { name, lines: text.trimEnd().split("\n"), reader: type.page, unsaid };
});

const read = (reader: PageReader, lines: readonly string[]): readonly TokenReading[] =>
  reader.read(parsePage(Buffer.from(`${lines.join("\n")}\n`))).readings;

const keyOf = ({ endpoint, model, tenant }: TokenReading): string =>
  JSON.stringify([model, tenant, endpoint]);

/** Tokens, requests and observed latencies by whose they are. */
function counts(readings: readonly TokenReading[], scale = 1): Record<string, unknown> {
  const scaled = (of: Readonly<Record<string, number>>): Record<string, number> =>
    Object.fromEntries(Object.entries(of).map(([name, value]) => [name, value * scale]));
  return Object.fromEntries(
    readings.map((reading) => [
      keyOf(reading),
      {
        tokens: scaled(reading.tokens),
        requests: scaled(reading.requests),
        latencies: Object.fromEntries(
          Object.entries(reading.latencies ?? {}).map(([key, { count }]) => [key, count * scale]),
        ),
        reasoning: reading.reasoningTokens === undefined ? undefined : reading.reasoningTokens * scale,
      },
    ]),
  );
}

const isSample = (line: string): boolean => line !== "" && !line.startsWith("#");

/** The family of a sample line, as it is spelled there. */
function familyAt(line: string): string {
  return (/^[^{\s]+/.exec(line)?.[0] ?? "").replace(/_(bucket|sum|count|created|total)$/, "");
}

/** The value of a sample line, times `scale`. */
function times(line: string, scale: number): string {
  const match = /^(\S*\{.*\}|\S+) (\S+)(.*)$/.exec(line);
  if (!isSample(line) || match === null) return line;
  const value = Number(match[2]);
  return Number.isFinite(value) ? `${match[1]} ${value * scale}${match[3]}` : line;
}

describe.each(recorded.map((each) => [each.name, each] as const))(
  "%s",
  (_name, { lines, reader, unsaid }) => {
    const before = counts(read(reader, lines));

    test("says nothing of what its kind never says", () => {
      for (const { endpoint, tenant, tokens } of read(reader, lines)) {
        if (unsaid.includes("tenant")) expect(tenant).toBeUndefined();
        if (unsaid.includes("endpoint")) expect(endpoint).toBeUndefined();
        if (unsaid.includes("tokens")) expect(tokens).toEqual({});
        if (unsaid.includes("cached input"))
          expect([tokens.input_cached, tokens.input_uncached]).toEqual([undefined, undefined]);
      }
    });

    test("reads the same in any order of its lines", () => {
      fc.assert(
        fc.property(fc.shuffledSubarray([...lines], { minLength: lines.length }), (shuffled) => {
          const ended = [
            ...shuffled.filter((line) => line !== "# EOF"),
            ...lines.filter((line) => line === "# EOF"),
          ];
          expect(counts(read(reader, ended))).toEqual(before);
        }),
        { numRuns: 5 },
      );
    });

    test("counts twice as much where every counter is twice as large", () => {
      const doubled = lines.map((line) =>
        /process_start_time_seconds|_created/.test(line) ? line : times(line, 2),
      );
      expect(counts(read(reader, doubled))).toEqual(counts(read(reader, lines), 2));
    });

    test("reads the same where every counter stands there once more, as a gauge without _total", () => {
      const twice = lines.flatMap((line) => {
        const alias = line.replace(/^([^{\s]+?)_total(?=[{\s])/, "$1");
        const isCounter = isSample(line) && alias !== line;
        return isCounter ? [alias, line] : [line];
      });
      expect(counts(read(reader, twice))).toEqual(before);
    });

    test("is taken for no other server, whichever of its families are not there yet", () => {
      const families = [...new Set(lines.filter(isSample).map(familyAt))];
      fc.assert(
        fc.property(fc.subarray(families), (kept) => {
          const shown = lines.filter((line) => isSample(line) && kept.includes(familyAt(line)));
          const page = parsePage(Buffer.from(`${shown.join("\n")}\n`));
          const takers = serverTypes.filter((type) => type.page?.recognises(page) !== undefined);
          expect(takers.filter((type) => type.page !== reader).map((type) => type.name)).toEqual([]);
        }),
        { numRuns: 40 },
      );
    });

    test("counts no token that stands on no line", () => {
      const onPage = lines.filter(isSample).reduce((sum, line) => {
        const value = Number(/^(?:\S*\{.*\}|\S+) (\S+)/.exec(line)?.[1]);
        return Number.isFinite(value) && value > 0 && /tok|len|length|predicted/i.test(line)
          ? sum + value
          : sum;
      }, 0);
      const read1 = read(reader, lines);
      const counted = read1
        .flatMap(({ tokens }) => Object.values(tokens))
        .reduce((sum, value) => sum + value, 0);
      expect(counted).toBeLessThanOrEqual(onPage);
    });
  },
);

const count = fc.integer({ min: 0, max: 1_000_000 });
const role = fc.constantFrom<Role>("combined", "decode", "prefill");

/** vLLM's reader, under a role. */
const vllmLike: Parameters<typeof pageReader>[0] = {
  name: "vllm",
  family: "engine",
  port: 8000,
  path: "/metrics",
  volume: "step",
  labels: { modelLabel: "model_name" },
  families: vllm.page.families ?? [],
  recognises: vllm.page.recognises,
  read: (readings) => readVllm(readings),
};

/** A vLLM of any release: which counters it has, and sources that overlap (0.16 to 0.19) or do not. */
const engine = fc.record({
  total: count,
  bySource: fc.option(
    fc.record({ local_compute: count, local_cache_hit: count, external_kv_transfer: count }),
  ),
  cached: fc.option(count),
  output: count,
});

describe("vllm", () => {
  test("never counts more input than prompt_tokens, whatever its parts say, and all of it where they add up", () => {
    fc.assert(
      fc.property(fc.array(engine, { minLength: 1, maxLength: 4 }), role, (engines, as) => {
        const lines = engines.flatMap(({ bySource, cached, output, total }, index) => {
          const labels = `engine="${index}",model_name="m"`;
          const sources = Object.entries(bySource ?? {}).map(
            ([source, value]) => `vllm:prompt_tokens_by_source_total{${labels},source="${source}"} ${value}`,
          );
          return [
            `vllm:prompt_tokens_total{${labels}} ${total}`,
            `vllm:generation_tokens_total{${labels}} ${output}`,
            ...sources,
            ...(cached === null ? [] : [`vllm:prompt_tokens_cached_total{${labels}} ${cached}`]),
          ];
        });
        const reader = pageReader(vllmLike, { role: as });
        const { output, ...input } = read(reader, lines)[0]?.tokens ?? {};
        const sum = Object.values(input).reduce((all, value) => all + value, 0);
        const total = engines.reduce((all, each) => all + each.total, 0);
        expect(sum).toBeLessThanOrEqual(total);
        const whole = engines.every(({ bySource, total: all }) => {
          const parts = Object.values(bySource ?? {}).reduce((a, b) => a + b, 0);
          return bySource === null || parts >= all;
        });
        if (as !== "decode" && whole) expect(sum).toBe(total);
        expect(output).toBe(
          as === "prefill" ? undefined : engines.reduce((all, each) => all + each.output, 0),
        );
      }),
    );
  });
});

describe("sglang", () => {
  test("splits every input once: hits of all sources, up to the input", () => {
    const sources = fc.dictionary(fc.constantFrom("device", "host", "storage_file", "total"), count);
    fc.assert(
      fc.property(count, count, sources, (streamed, whole, hits) => {
        const lines = [
          `sglang:prompt_tokens_total{is_streaming="true",model_name="m"} ${streamed}`,
          `sglang:prompt_tokens_total{is_streaming="false",model_name="m"} ${whole}`,
          ...Object.entries(hits).map(
            ([source, value]) =>
              `sglang:cached_tokens_total{cache_source="${source}",model_name="m"} ${value}`,
          ),
        ];
        const tokens = read(sglang.page, lines)[0]?.tokens;
        const total = streamed + whole;
        const cached = Math.min(
          total,
          Object.values(hits).reduce((sum, value) => sum + value, 0),
        );
        expect(tokens).toEqual(
          Object.keys(hits).length === 0
            ? { input_unsplit: total }
            : { input_cached: cached, input_uncached: total - cached },
        );
      }),
    );
  });
});

describe("agentgateway", () => {
  test("counts input and cache reads once, by what the provider's format includes", () => {
    const system = fc.constantFrom("openai", "azure", "anthropic", "aws.bedrock", "custom", "gcp.vertex_ai");
    fc.assert(
      fc.property(system, count, count, (named, input, hits) => {
        const line = (type: string, value: number): string =>
          `agentgateway_gen_ai_client_token_usage_sum{gen_ai_token_type="${type}",gen_ai_system="${named}",gen_ai_request_model="m"} ${value}`;
        const tokens = read(agentgateway.page, [line("input", input), line("input_cache_read", hits)])[0]
          ?.tokens;
        const sum = Object.values(tokens ?? {}).reduce((all, value) => all + value, 0);
        expect(sum).toBe(/anthropic|bedrock/.test(named) ? input + hits : input);
      }),
    );
  });
});
