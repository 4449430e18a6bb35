// The laws of a bill, against an oracle that knows nothing of ledgers: any tenants, outcomes, prices that change and
// currencies, records late, taken back and on days of 23 and 25 hours, over restarts. The oracle prices every record by itself,
// with its own reading of the price files, and every format and grouping must give its sums to the last unit.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { BookFacts } from "../../../agent/meter/books.ts";
import { Books } from "../../../agent/meter/books.ts";
import type { Catalogue } from "../../../agent/meter/money/catalogue.ts";
import type { Outcome, TokenKind, UsagePiece } from "../../../agent/model.ts";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { engine, factsOf, gateway, h100, intervalOf, moved } from "../../meter/fixtures.ts";
import { LedgerAtOnce } from "../../store/ledger/ledger-at-once.ts";
import { runCommand } from "../capture-io.ts";
import { figuresOf } from "./page-figures.ts";
import { parseCsv } from "./parse-csv.ts";

const MINUTE = 60_000;
const FEMTO = 1_000_000_000_000_000n;
const kinds: readonly TokenKind[] = ["input_uncached", "input_cached", "input_unsplit", "output"];
const outcomes: readonly Outcome[] = ["ok", "error", "aborted", "rejected"];
const tenants = [
  "acme",
  "beta",
  "other",
  "unknown",
  "unattributed",
  "~other",
  "(unknown)",
  "=1+1",
  'a,b"c',
  "-5",
  "",
];
const models = ["m", "free", "rare", "no-price"];

interface Record {
  /** Minutes after the start. */
  readonly used: number;
  /** Minutes after it was used. */
  readonly late: number;
  readonly tenant: string;
  readonly endpoint: string;
  readonly model: string;
  readonly outcome: Outcome;
  /** Read from a gateway's page, which has no time of its own: booked in the interval it was read in. */
  readonly isOnPage: boolean;
  /** Minutes after it arrived at which it is taken back; undefined = it stays. */
  readonly takenBack: number | undefined;
  readonly tokens: Partial<{ [K in TokenKind]: number }>;
}
interface Prices {
  /** Minutes after the start at which the file is read. */
  readonly since: number;
  readonly currency: string;
  readonly outcomes: readonly Outcome[] | undefined;
  readonly entries: readonly {
    readonly model: string;
    readonly kind: TokenKind;
    /** 1e-9 per million. */
    readonly perMillion: bigint;
    /** Minutes after the start; undefined = open. */
    readonly from: number | undefined;
    readonly to: number | undefined;
  }[];
}
/** Which engines of this host serve the model `m` from a minute on. */
interface Serving {
  readonly since: number;
  readonly engines: readonly string[];
}
interface Case {
  readonly zone: string;
  readonly serving: readonly Serving[];
  /** The price file a report is repriced with. */
  readonly other: Prices;
  /** UTC, just before a change of the clocks in one of the zones. */
  readonly start: number;
  readonly records: readonly Record[];
  readonly files: readonly Prices[];
  /** After so many records the agent is started again. */
  readonly restart: number;
}

const minutes = fc.integer({ min: 0, max: 60 * 30 });
const record: fc.Arbitrary<Record> = fc.record({
  used: minutes,
  late: fc.oneof(
    { weight: 3, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 60 * 24 * 3 }) },
  ),
  tenant: fc.constantFrom(...tenants),
  endpoint: fc.constantFrom("chat", "", "other"),
  model: fc.constantFrom("m", "m", ...models),
  outcome: fc.constantFrom(...outcomes),
  isOnPage: fc.boolean(),
  takenBack: fc.oneof(
    { weight: 2, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 60 * 24 }) },
  ),
  tokens: fc.record(
    Object.fromEntries(kinds.map((kind) => [kind, fc.integer({ min: 1, max: 5_000_000 })])) as {
      [K in TokenKind]: fc.Arbitrary<number>;
    },
    { requiredKeys: [] },
  ),
});
const file = (since: fc.Arbitrary<number>): fc.Arbitrary<Prices> =>
  fc.record({
    since,
    currency: fc.constantFrom("USD", "EUR", "JPY"),
    outcomes: fc.option(fc.subarray([...outcomes], { minLength: 1 }), { nil: undefined }),
    entries: fc
      .tuple(
        fc.bigInt({ min: 0n, max: 90_000_000_000n }),
        fc.bigInt({ min: 0n, max: 90_000_000_000n }),
        fc.option(minutes, { nil: undefined }),
        fc.boolean(),
      )
      .map(([price, later, change, hasRare]) =>
        kinds.flatMap((kind) => [
          { model: "m", kind, perMillion: price, from: undefined, to: change },
          ...(change === undefined
            ? []
            : [{ model: "m", kind, perMillion: later, from: change, to: undefined }]),
          { model: "free", kind, perMillion: 0n, from: undefined, to: undefined },
          ...(hasRare ? [{ model: "rare", kind, perMillion: 1n, from: undefined, to: undefined }] : []),
        ]),
      ),
  });
const bill: fc.Arbitrary<Case> = fc.record({
  zone: fc.constantFrom("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe"),
  start: fc.constantFrom("2026-10-24T20:00Z", "2026-10-31T15:00Z", "2026-10-03T10:00Z").map(Date.parse),
  records: fc.array(record, { minLength: 1, maxLength: 25 }),
  serving: fc
    .array(
      fc.record({
        since: fc.integer({ min: 0, max: 60 * 40 }),
        engines: fc.subarray(["s", "s2"]),
      }),
      { minLength: 2, maxLength: 5 },
    )
    .map((changes) => [{ since: 0, engines: ["s"] }, ...changes.sort((a, b) => a.since - b.since)]),
  other: file(fc.constant(0)),
  files: fc
    .tuple(
      file(fc.constantFrom(0, 0, 600)),
      fc.array(file(fc.integer({ min: 1, max: 60 * 30 })), { maxLength: 2 }),
    )
    .map(([one, more]) => [one, ...more].sort((a, b) => a.since - b.since)),
  restart: fc.integer({ min: 0, max: 30 }),
});

interface Charge {
  readonly record: Record;
  readonly kind: TokenKind;
  readonly tokens: bigint;
  readonly at: number;
  /** Undefined: no price is known. */
  readonly currency: string | undefined;
  readonly cost: bigint;
  /** The one engine that served its model when it was counted; undefined = none, or several. */
  readonly server: string | undefined;
}

/** What every token costs, from the records and the files alone. */
function oracle(one: Case): readonly Charge[] {
  return one.records.flatMap((record) =>
    kinds.flatMap((kind): Charge[] => {
      const tokens = BigInt(record.tokens[kind] ?? 0);
      if (tokens === 0n || record.takenBack !== undefined) return [];
      const { late, used } = record;
      const engines = one.serving.findLast(({ since }) => since <= used + late)?.engines ?? [];
      const charge = {
        ...{ record, kind, tokens, at: one.start + used * MINUTE },
        server: record.model === "m" && engines.length === 1 ? engines[0] : undefined,
      };
      // Before this host had any price file, what it counted had no price.
      const isKnown = (one.files[0]?.since ?? 0) <= used + late;
      const inForce = one.files.findLast(({ since }) => since <= used) ?? one.files[0];
      return [{ ...charge, ...costIn(isKnown ? inForce : undefined, charge, used) }];
    }),
  );
}

/** The same by another price file, which counts from the bucket a price begins in. */
function repricedOracle(one: Case): readonly Charge[] {
  return oracle(one).map((charge) => ({
    ...charge,
    ...costIn(one.other, charge, Math.floor(charge.record.used / 15) * 15),
  }));
}

function costIn(
  prices: Prices | undefined,
  { kind, record, tokens }: Pick<Charge, "kind" | "record" | "tokens">,
  minute: number,
): Pick<Charge, "currency" | "cost"> {
  const entry = prices?.entries.find(
    ({ from = 0, to = Number.POSITIVE_INFINITY, ...of }) =>
      of.model === record.model && of.kind === kind && from <= minute && minute < to,
  );
  if (prices === undefined || entry === undefined) return { currency: undefined, cost: 0n };
  const isBilled = (prices.outcomes ?? ["ok"]).includes(record.outcome);
  return { currency: prices.currency, cost: isBilled ? tokens * entry.perMillion : 0n };
}

function catalogueOf({ currency, entries, outcomes: billed, since }: Prices, start: number): Catalogue {
  const unix = (minute: number | undefined): bigint | undefined =>
    minute === undefined ? undefined : BigInt(start + minute * MINUTE) * 1_000_000n;
  return {
    version: `v${since}`,
    currency,
    ...(billed === undefined ? {} : { outcomes: billed }),
    gpus: [],
    energy: [],
    capacity: [],
    tokens: entries.map((one) => ({
      ...one,
      version: `v${since}${one.from === undefined ? "" : `/${one.from}`}`,
      source: undefined,
      from: unix(one.from),
      to: unix(one.to),
    })),
  };
}

/** Plays the records in the order they arrive, as an agent would, and gives the ledger's folder. */
function play(one: Case, folder: string): void {
  const { files, records, restart, serving, start } = one;
  const origin = BigInt(start) * 1_000_000n;
  const unixNanos = (at: number): bigint => origin + BigInt(Math.round(at));
  const factsAt = (minute: number): BookFacts =>
    hostOf(serving.findLast(({ since }) => since <= minute)?.engines ?? []);
  const arrivals = records
    .flatMap((record, index) => {
      const arrives = record.used + record.late;
      const events = [{ record, index, now: arrives, takesBack: false }];
      if (record.takenBack === undefined) return events;
      return [...events, { record, index, now: arrives + record.takenBack, takesBack: true }];
    })
    .sort((a, b) => a.now - b.now || a.index - b.index || Number(a.takesBack) - Number(b.takesBack));
  let database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0, agentId: "host-1" });
  let next = files[0]?.since === 0 ? 1 : 0;
  const bookOf = (minute = 0): Books =>
    new Books(
      {
        start: unixNanos(minute * MINUTE * 1e6),
        unixNanos,
        tenantsMax: 3,
        ...(next === 0 ? {} : { catalogue: catalogueOf(files[next - 1] as Prices, start) }),
      },
      database.opened.restored,
    );
  let books = bookOf();
  const beat = (minute: number): void => {
    const at = minute * MINUTE * 1e6;
    database.commit(books.commit(unixNanos(at), at).batch);
  };
  for (const [index, { now, record, takesBack }] of arrivals.entries()) {
    for (let prices = files[next]; prices !== undefined && prices.since <= now; prices = files[next]) {
      books.setCatalogue(catalogueOf(prices, start), prices.since * MINUTE * 1e6);
      next++;
    }
    beat(now);
    if (index === restart) {
      database.close();
      database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0 });
      books = bookOf(now);
    }
    const piece: UsagePiece = {
      model: record.model,
      tenant: record.tenant,
      endpoint: record.endpoint,
      outcome: record.outcome,
      tokens: record.tokens,
      requests: 1,
      at: unixNanos(record.used * MINUTE * 1e6),
      countedAt: unixNanos((record.used + record.late) * MINUTE * 1e6),
      takesBack,
    };
    if (record.isOnPage && record.late === 0 && record.takenBack === undefined) {
      const { outcome, tokens } = record;
      const increment = moved({
        ...record,
        late: false,
        server: "g",
        family: "gateway",
        tokensByOutcome: { [outcome]: tokens },
      });
      const from = now * 60;
      const interval = intervalOf({ from, to: from + 1, increments: [increment], residents: [] });
      books.bookInterval(interval, factsAt(now));
    } else books.postUsage("gateway", [piece], factsAt(now), now * MINUTE * 1e6);
  }
  beat(60 * 24 * 5);
  database.close();
}

/** A host with a gateway, and two engines on GPUs of their own of which some serve the model `m`. */
function hostOf(engines: readonly string[]): BookFacts {
  const gpuOf = (id: string): string => (id === "s" ? "GPU-1" : "GPU-2");
  const serversOf = engines.map((id) => [id, { ...engine, id, gpus: [gpuOf(id)] }] as const);
  return {
    ...factsOf(),
    gpus: new Map([
      ["GPU-1", h100],
      ["GPU-2", { ...h100, uuid: "GPU-2", index: 1, name: "NVIDIA A100-SXM4-80GB" }],
    ]),
    servers: new Map([["g", gateway], ...serversOf]),
    soleModel: () => "m",
  };
}

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

const shown: { readonly [tenant: string]: string } = { "": "(unknown)", "(unknown)": "~(unknown)" };

function named(tenant: string): string {
  return shown[tenant] ?? tenant;
}

function localName(at: number, unit: "day" | "month" | "hour", zone: string): string {
  const format = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "short" });
  const text = format.format(at);
  return unit === "month" ? text.slice(0, 7) : text.slice(0, 10);
}

type Sums = Map<string, { tokens: bigint; money: Map<string, bigint> }>;

function sumBy(charges: readonly Charge[], key: (charge: Charge) => string): Sums {
  const sums: Sums = new Map();
  for (const charge of charges) {
    const known = sums.get(key(charge)) ?? { tokens: 0n, money: new Map<string, bigint>() };
    sums.set(key(charge), known);
    known.tokens += charge.tokens;
    if (charge.currency !== undefined)
      known.money.set(charge.currency, (known.money.get(charge.currency) ?? 0n) + charge.cost);
  }
  return sums;
}

/** What was taken back may leave a zero of its currency. */
function withoutZeros(sums: Sums): Sums {
  for (const { money } of sums.values()) {
    for (const [currency, amount] of money) if (amount === 0n) money.delete(currency);
  }
  dropEmpty(sums);
  return sums;
}

/** The same where something was taken back: less the zeros of currencies in which nothing else was earned. */
function withoutTakenBack(sums: Sums, wanted: Sums, { records }: Case): Sums {
  if (records.every(({ takenBack }) => takenBack === undefined)) return sums;
  for (const [key, { money }] of sums) {
    const earned = wanted.get(key)?.money;
    for (const [currency, amount] of money)
      if (amount === 0n && earned?.has(currency) !== true) money.delete(currency);
  }
  return sums;
}

/** A group may have requests and no tokens, or tokens that were taken back. */
function dropEmpty(sums: Sums): void {
  for (const [key, { money, tokens }] of sums)
    if (tokens === 0n && [...money.values()].every((amount) => amount === 0n)) sums.delete(key);
}

function femto(decimal: string): bigint {
  if (decimal.startsWith("-")) return -femto(decimal.slice(1));
  const [whole = "0", fraction = ""] = decimal.split(".");
  expect(fraction.length).toBeLessThanOrEqual(15);
  return BigInt(whole) * FEMTO + BigInt(fraction.padEnd(15, "0"));
}

async function run(folder: string, ...words: string[]): Promise<string> {
  const { exitCode, stderr, stdout } = await runCommand([
    "report",
    "--state-dir",
    folder,
    "--from",
    "2026-10-01",
    ...words,
  ]);
  expect(exitCode, stderr).toBe(0);
  return stdout;
}

const groupings: readonly (readonly [by: string, key: (charge: Charge, zone: string) => string])[] = [
  ["", () => ""],
  ["tenant", ({ record }) => named(record.tenant)],
  ["model", ({ record }) => record.model],
  ["endpoint", ({ record }) => (record.endpoint === "" ? "(unknown)" : record.endpoint)],
  ["kind", ({ kind }) => kind],
  ["outcome", ({ record }) => record.outcome],
  ["tenant,model,kind", ({ kind, record }) => `${named(record.tenant)}|${record.model}|${kind}`],
  ["day,tenant", ({ at, record }, zone) => `${localName(at, "day", zone)}|${named(record.tenant)}`],
  ["month", ({ at }, zone) => localName(at, "month", zone)],
];

/** A CSV or JSON report as sums by its labels. */
function sumsOf(rows: readonly { [name: string]: string }[], by: string): Sums {
  const labels = by.split(",").map((word) => (word === "day" || word === "month" ? "period" : word));
  const sums: Sums = new Map();
  for (const row of rows) {
    const unprotected = (text: string): string => (/^'[=+@-]/.test(text) ? text.slice(1) : text);
    const key = by === "" ? "" : labels.map((label) => unprotected(row[label] ?? "")).join("|");
    const known = sums.get(key) ?? { tokens: 0n, money: new Map<string, bigint>() };
    sums.set(key, known);
    known.tokens += BigInt(row["tokens"] || 0);
    if ((row["revenue"] ?? "") === "") continue;
    expect(row["currency"]).not.toBe("");
    const currency = row["currency"] ?? "";
    known.money.set(currency, (known.money.get(currency) ?? 0n) + femto(row["revenue"] ?? ""));
  }
  dropEmpty(sums);
  return sums;
}

describe("tokenwatt report", () => {
  test("bills what an oracle bills, to the last unit, in every format and grouping", async () => {
    await fc.assert(
      fc.asyncProperty(bill, async (one) => {
        const charges = oracle(one);

        const folder = mkdtempSync(join(tmpdir(), "bills-"));
        folders.push(folder);
        play(one, folder);
        expect(verifyLedger(join(folder, "ledger.db")).problems).toEqual([]);
        const zone = ["--time-zone", one.zone, "--source", "gateway"];
        for (const [by, key] of groupings) {
          const wanted = sumBy(charges, (charge) => key(charge, one.zone));
          const words = by === "" ? zone : [...zone, "--by", by];
          const csv = parseCsv(await run(folder, ...words, "--format", "csv"));
          expect(withoutTakenBack(sumsOf(csv, by), wanted, one), by).toEqual(wanted);
          checkJson(
            JSON.parse(await run(folder, ...words, "--json")),
            [one, by],
            wanted,
            sumBy(charges, () => ""),
          );
        }
        await checkPayers(folder, charges, one);
        await checkFilters(folder, zone, charges);
        await checkTable(folder, zone);
        await checkRepriced(folder, zone, one);
        await checkPage(folder, charges, one);
        checkFocus(
          parseCsv(await run(folder, ...zone, "--by", "day", "--format", "focus")),
          charges,
          one.zone,
        );
        checkEvents(await run(folder, ...zone, "--format", "cloudevents"), charges);
        rmSync(folder, { recursive: true, force: true });
      }),
      { numRuns: Number(process.env["BILLS_RUNS"] ?? 10) },
    );
  }, 600_000);
});

/** Revenue by the engine that billed, and by its GPUs: also of what was taken back after another engine took over. */
async function checkPayers(folder: string, charges: readonly Charge[], one: Case): Promise<void> {
  const productOf = { s: h100.name, s2: "NVIDIA A100-SXM4-80GB" };
  const product = ({ server }: Charge): string =>
    server === undefined ? "(no gpu_type)" : productOf[server as "s" | "s2"];
  for (const [by, key] of [
    ["server", ({ server }: Charge) => server ?? "(no server)"],
    ["gpu_type", product],
  ] as const) {
    const rows = parseCsv(await run(folder, "--by", by, "--format", "csv"));
    const money = rows.map((row) => ({ ...row, tokens: "" }));
    const wanted = sumBy(charges, key);
    const paid = new Map([...wanted].map(([name, sums]) => [name, { ...sums, tokens: 0n }]));
    expect(withoutZeros(sumsOf(money, by)), by).toEqual(withoutZeros(paid));
    for (const { revenue } of rows) expect(Number(revenue)).toBeGreaterThanOrEqual(0);
    expect(one.serving.length).toBeGreaterThan(0);
  }
}

/** Two filters of two groups must both fit, two of one group either; formats agree on what is left. */
async function checkFilters(
  folder: string,
  zone: readonly string[],
  charges: readonly Charge[],
): Promise<void> {
  const where = ["--where", "model=m", "--where", "model=free", "--where", "tenant=acme"];
  const kept = charges.filter(
    ({ record }) => record.tenant === "acme" && (record.model === "m" || record.model === "free"),
  );
  const wanted = withoutZeros(sumBy(kept, ({ record }) => record.model));
  const csv = parseCsv(await run(folder, ...zone, ...where, "--by", "model", "--format", "csv"));
  expect(withoutZeros(sumsOf(csv, "model"))).toEqual(wanted);
  const focus = parseCsv(await run(folder, ...zone, ...where, "--format", "focus"));
  const rows = focus.map((row) => ({
    ...{ model: row["x_Model"] ?? "", tokens: row["ConsumedQuantity"] ?? "" },
    ...{ revenue: row["BilledCost"] ?? "", currency: row["BillingCurrency"] ?? "" },
  }));
  const priced = kept.filter(({ currency }) => currency !== undefined);
  expect(withoutZeros(sumsOf(rows, "model"))).toEqual(
    withoutZeros(sumBy(priced, ({ record }) => record.model)),
  );
}

/** The table says what the CSV says, rounded, and never 0 for what is not. */
async function checkTable(folder: string, zone: readonly string[]): Promise<void> {
  const by = ["--by", "tenant,model"];
  const [head = [], ...lines] = (await run(folder, ...zone, ...by))
    .split("\n")
    .map((line) => line.split(/ {2,}/));
  const csv = parseCsv(await run(folder, ...zone, ...by, "--format", "csv"));
  const table = lines.filter((line) => line.length > 1 && line[0] !== "total");
  expect(table.length).toBe(csv.length);
  const at = (line: readonly string[], name: string): string => {
    // Labels are set to the left, and an empty cell of theirs is none.
    const text = line.slice(line.length - head.length)[head.indexOf(name)] ?? "-";
    return text === "-" ? "" : text.replaceAll(",", "");
  };
  for (const [index, row] of csv.entries()) {
    const line = table[index] ?? [];
    expect(at(line, "tokens")).toBe(row["tokens"] ?? "");
    const [shown, exact] = [at(line, "revenue"), row["revenue"] ?? ""];
    expect(shown === "").toBe(exact === "");
    const coin = row["currency"] === "JPY" ? 1 : 0.01;
    expect(Math.abs(Number(shown) - Number(exact))).toBeLessThanOrEqual(coin / 2 + 1e-6);
    expect(Number(shown) === 0).toBe(Number(exact) === 0);
  }
}

/** Tokens and revenue of each tenant as the page has them. */
async function checkPage(folder: string, charges: readonly Charge[], { zone }: Case): Promise<void> {
  const page = await run(folder, "--format", "html", "--time-zone", zone);
  const from = page.indexOf('id="tenants"');
  const shown = figuresOf(from < 0 ? "" : page.slice(from, page.indexOf("</table>", from)));
  const sums: Sums = new Map();
  for (const [row, figures] of shown) {
    if (!row.startsWith("[")) continue;
    const sum = { tokens: 0n, money: new Map<string, bigint>() };
    sums.set(String(JSON.parse(row)[0]), sum);
    for (const [key, value] of figures) {
      const [name, currency = ""] = key.split(" ");
      if (name === "total_tokens") sum.tokens = BigInt(value);
      if (name === "revenue") sum.money.set(currency, femto(value));
    }
  }
  const wanted = sumBy(charges, ({ record }) => named(record.tenant));
  expect(withoutZeros(sums)).toEqual(withoutZeros(wanted));
}

async function checkRepriced(folder: string, zone: readonly string[], one: Case): Promise<void> {
  const path = join(folder, "other.yaml");
  const instant = (minute: number | undefined): string | undefined =>
    minute === undefined ? undefined : new Date(one.start + minute * MINUTE).toISOString();
  const tokens = one.other.entries.map(({ from, kind, model, perMillion, to }) => ({
    ...{ model, kind, from: instant(from), to: instant(to) },
    pricePerMillionTokens: `${perMillion / 1_000_000_000n}.${String(perMillion % 1_000_000_000n).padStart(9, "0")}`,
  }));
  const { currency, outcomes: billed } = one.other;
  writeFileSync(path, JSON.stringify({ version: "other", currency, outcomes: billed, tokens }));
  const words = [...zone, "--by", "tenant", "--format", "csv", "--reprice", path];
  const wanted = sumBy(repricedOracle(one), ({ record }) => named(record.tenant));
  expect(withoutZeros(sumsOf(parseCsv(await run(folder, ...words)), "tenant"))).toEqual(withoutZeros(wanted));
}

interface Line {
  readonly [name: string]: unknown;
  readonly tokens: { readonly [kind: string]: number };
  readonly money: readonly { readonly currency: string; readonly revenue: string | null }[];
}

function checkJson(
  report: { readonly lines: readonly Line[]; readonly total: Line },
  [played, by]: readonly [Case, string],
  wanted: Sums,
  whole: Sums,
): void {
  const labels =
    by === "" ? [] : by.split(",").map((word) => (word === "day" || word === "month" ? "period" : word));
  const sums: Sums = new Map();
  const add = (key: string, line: Line): void => {
    const known = sums.get(key) ?? { tokens: 0n, money: new Map<string, bigint>() };
    sums.set(key, known);
    for (const tokens of Object.values(line.tokens)) known.tokens += BigInt(tokens);
    for (const { currency, revenue } of line.money)
      if (revenue !== null) known.money.set(currency, (known.money.get(currency) ?? 0n) + femto(revenue));
  };
  for (const line of report.lines) add(labels.map((label) => String(line[label])).join("|"), line);
  dropEmpty(sums);
  expect(withoutTakenBack(sums, wanted, played), `${by} as JSON`).toEqual(wanted);
  sums.clear();
  add("", report.total);
  dropEmpty(sums);
  dropEmpty(whole);
  expect(withoutTakenBack(sums, whole, played), `total by ${by}`).toEqual(whole);
}

/** Quantity x unit price = cost in every row; rows of a tenant and day sum to what it owes; periods hold each other. */
function checkFocus(
  rows: readonly { [name: string]: string }[],
  charges: readonly Charge[],
  zone: string,
): void {
  const sums: Sums = new Map();
  for (const row of rows) {
    const tenant = (row["SubAccountId"] ?? "").replace(/^'/, "");
    const day = localName(Date.parse(row["ChargePeriodStart"] ?? ""), "day", zone);
    const known = sums.get(`${tenant}|${day}`) ?? { tokens: 0n, money: new Map<string, bigint>() };
    sums.set(`${tenant}|${day}`, known);
    known.tokens += BigInt(row["ConsumedQuantity"] ?? "");
    for (const [inner, outer] of [
      ["ChargePeriodStart", "BillingPeriodStart"],
      ["BillingPeriodEnd", "ChargePeriodEnd"],
    ])
      expect(Date.parse(row[inner as string] ?? "")).toBeGreaterThanOrEqual(
        Date.parse(row[outer as string] ?? ""),
      );
    const cost = femto(row["BilledCost"] ?? "");
    // What is taken back leaves nothing where it was booked, and nothing negative elsewhere.
    expect(known.tokens >= 0n && BigInt(row["ConsumedQuantity"] ?? "") > 0n && cost >= 0n).toBe(true);
    expect((femto(row["PricingQuantity"] ?? "") / FEMTO) * femto(row["ListUnitPrice"] ?? "")).toBe(cost);
    expect(BigInt(row["ConsumedQuantity"] ?? "") * femto(row["ContractedUnitPrice"] ?? "")).toBe(cost);
    expect([row["EffectiveCost"], row["ListCost"], row["ContractedCost"]]).toEqual(
      Array(3).fill(row["BilledCost"]),
    );
    const currency = row["BillingCurrency"] ?? "";
    known.money.set(currency, (known.money.get(currency) ?? 0n) + cost);
  }
  const charged = charges.filter(({ currency }) => currency !== undefined);
  const account = ({ tenant }: Record): string => (tenant === "" ? "" : named(tenant));
  expect(sums).toEqual(
    sumBy(charged, ({ at, record }) => `${account(record)}|${localName(at, "day", zone)}`),
  );
}

/** Deltas sum to what was used; subjects are texts CloudEvents takes; no id comes twice. */
function checkEvents(text: string, charges: readonly Charge[]): void {
  const events = text
    .trim()
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as { id: string; subject: string; data: { [name: string]: string } });
  expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
  const row = ({ data, subject }: (typeof events)[number], amount: string, money: string) => ({
    tenant: subject,
    tokens: data[amount] ?? "",
    revenue: data[money] ?? "",
    currency: data["currency"] ?? "",
  });
  // A receiver that sums, and one that replaces what it had of a row.
  const latest = new Map(events.map((event) => [rowOf(event.data), event]));
  const wanted = sumBy(charges, ({ record }) => named(record.tenant));
  for (const { data } of latest.values()) expect(BigInt(data["tokens"] ?? "")).toBeGreaterThanOrEqual(0n);
  for (const rows of [
    events.map((event) => row(event, "delta", "cost_delta")),
    [...latest.values()].map((event) => row(event, "tokens", "cost")),
  ])
    expect(withoutZeros(sumsOf(rows, "tenant"))).toEqual(withoutZeros(structuredClone(wanted)));
}

/** What an event is a revision of. */
function rowOf({ cost, cost_delta, delta, revision, tokens, ...row }: { [name: string]: string }): string {
  return JSON.stringify(row);
}
