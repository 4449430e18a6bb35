// Any server with a Prometheus page, mapped by configuration: which sample is which kind of token.
// Nothing is assumed: names are given as on the page (":" and "_" alike, `_total` optional), `where` picks label values.
// What a server counts twice is for the mapping to leave out.
import { z } from "zod";
import type { LatencyName, Outcome, TokenKind } from "../model.ts";
import { familyOf, normaliseName } from "../page/parse-line.ts";
import type { PageReader, ServerType } from "../source.ts";
import type { PageReadings } from "./page/readings.ts";
import type { TextServer } from "./page/server.ts";
import { checkTextServer, openTextServer, pageReader, textServerConfig, unsaidBy } from "./page/server.ts";

const selector = z.strictObject({
  metric: z.string().refine((name) => normaliseName(name) !== undefined, {
    error: (issue) => `Cannot read ${JSON.stringify(issue.input)} as a metric name`,
  }),
  /** Only samples whose labels have these values. */
  where: z.record(z.string(), z.string()).optional(),
});
const latency = selector.extend({
  unit: z.enum(["s", "ms", "us"]).default("s"),
  /** How the requests in it ended; absent = the page does not say. */
  outcome: z.enum(["ok", "error", "aborted", "rejected"]).optional(),
});
const selectors = z.array(selector).default([]);
type Selector = z.output<typeof selector>;

const config = textServerConfig.extend({
  family: z.enum(["engine", "gateway"]).default("engine"),
  volume: z.enum(["step", "finish", "estimate"]).default("finish"),
  path: z.string().startsWith("/").default("/metrics"),
  /** Samples summed into each kind; `input` includes cache hits, `cached` are those hits. */
  tokens: z
    .strictObject({
      input: selectors,
      cached: selectors,
      input_uncached: selectors,
      input_cached: selectors,
      output: selectors,
      reasoning: selectors,
    })
    .prefault({}),
  requests: z
    .strictObject({ ok: selectors, error: selectors, aborted: selectors, rejected: selectors })
    .prefault({}),
  running: selectors,
  waiting: selectors,
  kvCacheUtilization: selectors,
  /** Histograms, or a list of them where outcomes are told apart; `unit` is that of their bounds. */
  latencies: z
    .partialRecord(
      z.enum([
        "time_to_first_token",
        "time_per_output_token",
        "inter_token_latency",
        "request_duration",
        "queue_time",
      ]),
      z.union([latency, z.array(latency).min(1)]),
    )
    .prefault({}),
});

type Entry = z.output<typeof config>;
const SCALES = { s: 1, ms: 1e-3, us: 1e-6 } as const;

/** What one mapped entry of the configuration says, its defaults filled in. */
export type GenericEntry = Entry;

/** A server that no other type knows. */
export const prometheusGeneric: ServerType<typeof config> = {
  name: "prometheus-generic",
  config,
  example: { endpoint: "localhost:9000", tokens: { output: [{ metric: "my_output_tokens_total" }] } },
  unsaid: (entry) => {
    const { cached, input, input_cached, input_uncached, output } = entry.tokens;
    const [splits, counts] = [
      [cached, input_cached],
      [input, input_uncached, input_cached, output],
    ].map((all) => all.some((selectors) => selectors.length > 0));
    return [
      ...unsaidBy({ labels: {} }, entry),
      ...(splits ? [] : (["cached input"] as const)),
      ...(counts ? [] : (["tokens"] as const)),
    ];
  },
  open: (entry, context) => openTextServer(serverOf(entry), entry, context),
  check: (entry) => checkTextServer(serverOf(entry), entry),
};

/** Reads pages by one mapping, and says which of its metrics a page does not have. */
export function genericReader(entry: GenericEntry): PageReader {
  const reader = pageReader(serverOf(entry), entry);
  return {
    ...reader,
    read: (page, noting) => {
      const reading = reader.read(page, noting);
      const missing = selectorsOf(entry).flatMap(([key, { metric, where }]) => {
        const samples = [filed(metric), `${filed(metric)}_count`].flatMap(
          (name) => page.samples.get(name) ?? [],
        );
        if (samples.length === 0) return [`${key}: ${metric} is not on the page`];
        const picked = samples.some(({ labels }) => is(where)(labels));
        return picked ? [] : [`${key}: no sample of ${metric} has ${JSON.stringify(where)}`];
      });
      return { ...reading, errors: [...reading.errors, ...missing] };
    },
  };
}

function serverOf(entry: Entry): TextServer {
  return {
    name: "prometheus-generic",
    family: entry.family,
    port: 9000,
    path: entry.path,
    volume: entry.volume,
    labels: {},
    // The mapping says whose tokens these are.
    merges: true,
    families: [
      ...new Set(selectorsOf(entry).flatMap(([, { metric }]) => [filed(metric), familyOf(filed(metric))])),
    ],
    recognises: () => undefined,
    read: (readings) => read(readings, entry),
  };
}

function read(readings: PageReadings, entry: Entry): void {
  const { tokens } = entry;
  const cached = tokens.cached.map(({ metric, where }) =>
    readings.parts(filed(metric), Object.keys(where ?? {}), is(where)),
  );
  const splits = cached.some((parts) => parts.size > 0);
  for (const { metric, where } of tokens.input) {
    const hits = (part: string): number => cached.reduce((sum, parts) => sum + (parts.get(part) ?? 0), 0);
    readings.input(
      filed(metric),
      (part) => (splits ? hits(part) : undefined),
      Object.keys(where ?? {}),
      is(where),
    );
  }
  for (const kind of ["input_uncached", "input_cached", "output"] as const)
    addTokens(readings, kind, tokens[kind]);
  for (const { metric, where } of tokens.reasoning) {
    for (const sample of readings.counters(filed(metric))) {
      if (is(where)(sample.labels)) readings.of(sample.labels).reasoning(sample.value);
    }
  }
  for (const [outcome, each] of Object.entries(entry.requests)) {
    for (const { metric, where } of each) {
      readings.requests(filed(metric), (labels) => (is(where)(labels) ? (outcome as Outcome) : undefined));
    }
  }
  for (const { metric, where } of entry.running) readings.inFlight("running", filed(metric), is(where));
  for (const { metric, where } of entry.waiting) readings.inFlight("waiting", filed(metric), is(where));
  for (const { metric, where } of entry.kvCacheUtilization) readings.kvCache(filed(metric), is(where));
  for (const [name, histograms] of Object.entries(entry.latencies)) {
    for (const { metric, outcome, unit, where } of [histograms].flat()) {
      const told = outcome === undefined ? {} : { outcome };
      readings.latency(name as LatencyName, filed(metric), {
        scale: SCALES[unit],
        when: is(where),
        ...told,
      });
    }
  }
  readings.epoch();
}

function addTokens(readings: PageReadings, kind: TokenKind, from: readonly Selector[]): void {
  for (const { metric, where } of from) {
    for (const sample of readings.counters(filed(metric))) {
      if (is(where)(sample.labels)) readings.of(sample.labels, "summed").tokens(kind, sample.value);
    }
  }
}

/** Every selector of an entry, with the key it stands under. */
function selectorsOf(entry: Entry): readonly (readonly [key: string, selector: Selector])[] {
  const under = (key: string, of: Readonly<Record<string, readonly Selector[]>>): [string, Selector][] =>
    Object.entries(of).flatMap(([name, all]) => all.map((each): [string, Selector] => [key + name, each]));
  const { tokens, requests, running, waiting, kvCacheUtilization, latencies } = entry;
  return [
    ...under("tokens.", tokens),
    ...under("requests.", requests),
    ...under("", { running, waiting, kvCacheUtilization }),
    ...Object.entries(latencies).flatMap(([name, each]) => under("latencies.", { [name]: [each].flat() })),
  ];
}

function filed(metric: string): string {
  return normaliseName(metric) ?? metric;
}

function is(where: Selector["where"]): (labels: Readonly<Record<string, string>>) => boolean {
  const wanted = Object.entries(where ?? {});
  return (labels) => wanted.every(([name, value]) => (labels[name] ?? "") === value);
}
