// The price file named by `prices`: its schema, and from it the catalogue the meter uses. Validated like the configuration
// itself: every problem at once, with path, line and nearest key. Numbers arrive as the text they are written as, so that
// money never passes through a double. Nothing has a default price: what the file does not hold has no cost.
import { z } from "zod";
import type { Catalogue, Validity } from "../meter/money/catalogue.ts";
import { parseDecimal } from "../meter/money/decimal.ts";
import type { TokenKind, UnixNanos } from "../model.ts";
import type { ConfigFile } from "./file.ts";
import { readConfigFile } from "./file.ts";
import { allPaths, jsonSchemaOf, knownKeys } from "./key-tree.ts";
import { valueAt } from "./paths.ts";
import type { Problem, ProblemContext } from "./problems.ts";
import { ConfigError, problemsOf } from "./problems.ts";

/** The catalogue in a price file. Throws ConfigError with every problem found in it. */
export function readPrices(path: string): Catalogue {
  const file = readConfigFile(path, {
    what: "price file",
    missing: "correct `prices`, or leave it out: then nothing has a cost",
    numbers: "as text",
  });
  if (file.problems.length > 0) throw new ConfigError(file.problems);
  const parsed = priceFile.safeParse(file.value);
  const problems = parsed.success ? [] : problemsOf(parsed.error.issues, contextOf(file));
  for (const list of Object.keys(lists) as ListName[]) problems.push(...overlaps(file, list));
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems);
  return catalogueOf(parsed.data);
}

const text = z.string().min(1);

/** An integer of 10^-digits, from decimal text. */
function decimal(digits: number, wanted: string): z.ZodType<bigint, string> {
  return z.string({ error: wanted }).transform((written, context) => {
    const amount = parseDecimal(written, digits);
    if (amount !== undefined) return amount;
    context.addIssue({ code: "custom", message: wanted, input: written });
    return z.NEVER;
  });
}

const money = decimal(9, "an amount of 0 or more, of at most 9 decimals");
const factor = decimal(3, "a factor of 0 or more, of at most 3 decimals");
const count = decimal(0, "a whole number of 0 or more");

/** Without a zone a time of day would be another instant on every host. */
const INSTANT = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$/u;

const INSTANT_WANTED = "a UTC day (2026-01-31) or an instant with its zone (2026-01-31T08:00:00+01:00)";

const instant = z.string({ error: INSTANT_WANTED }).transform((written, context): UnixNanos => {
  const millis = INSTANT.test(written) ? Date.parse(written) : Number.NaN;
  if (Number.isFinite(millis) && isOnTheCalendar(written)) return BigInt(millis) * 1_000_000n;
  context.addIssue({ code: "custom", message: INSTANT_WANTED, input: written });
  return z.NEVER;
});

/** JavaScript reads February 30 as March 2. */
function isOnTheCalendar(written: string): boolean {
  const day = written.slice(0, 10);
  return new Date(`${day}T00:00:00Z`).toISOString().slice(0, 10) === day;
}

/** Keys of every entry. What only people read may be any text. */
const entry = {
  from: instant.optional(),
  to: instant.optional(),
  source: text.optional(),
  asOf: text.optional(),
  note: text.optional(),
};

type EntryFields = z.output<z.ZodObject<typeof entry>>;

const kinds = {
  input: ["input_uncached", "input_unsplit"],
  cached: ["input_cached"],
  output: ["output"],
  input_uncached: ["input_uncached"],
  input_cached: ["input_cached"],
  input_unsplit: ["input_unsplit"],
} as const satisfies Readonly<Record<string, readonly TokenKind[]>>;

const gpu = z.strictObject({
  gpu: text,
  pricePerGpuHour: money,
  energyIncluded: z.boolean().default(true),
  basis: text.optional(),
  ...entry,
});
const token = z.strictObject({
  model: text,
  kind: z.enum(Object.keys(kinds) as (keyof typeof kinds)[]),
  pricePerMillionTokens: money,
  ...entry,
});
const energy = z.strictObject({
  pricePerKilowattHour: money,
  powerUsageEffectiveness: factor.default(1000n),
  ...entry,
});
const capacity = z.strictObject({
  gpu: text,
  model: text,
  tokensPerGpuHour: count,
  precision: text.optional(),
  slo: text.optional(),
  ...entry,
});

/** Each list of the file: what an entry is, and its names, of which no two may hold at one instant. */
const lists = {
  gpus: { entry: gpu, names: (one: z.output<typeof gpu>) => [one.gpu] },
  tokens: {
    entry: token,
    names: (one: z.output<typeof token>) => kinds[one.kind].map((kind) => `${one.model} ${kind}`),
  },
  energy: { entry: energy, names: () => ["energy"] },
  capacity: { entry: capacity, names: (one: z.output<typeof capacity>) => [`${one.gpu} with ${one.model}`] },
};
type ListName = keyof typeof lists;

/** ISO 4217, as the runtime's own data knows it: finance systems take no other. */
const currency = z
  .string()
  .refine((written) => currencies.has(written), { error: "a currency code of ISO 4217, such as USD or EUR" });
const currencies: ReadonlySet<string> = new Set(Intl.supportedValuesOf("currency"));

const priceFile = z.strictObject({
  version: text,
  currency,
  /** Requests that ended so are billed; what the others used is kept and costs nothing. */
  outcomes: z
    .array(z.enum(["ok", "error", "aborted", "rejected"]))
    .min(1)
    .default(["ok"]),
  gpus: z.array(gpu).default([]),
  tokens: z.array(token).default([]),
  energy: z.array(energy).default([]),
  capacity: z.array(capacity).default([]),
});

function contextOf(file: ConfigFile): ProblemContext {
  const schema = jsonSchemaOf(priceFile);
  return {
    whole: "the price file",
    root: file.value,
    locate: file.locate,
    knownKeys: (path) => knownKeys(schema, path),
    allPaths: () => allPaths(schema),
  };
}

interface Placed extends Validity {
  readonly index: number;
}

/** Entries that end before they begin, and entries of one name that hold at one instant; unreadable ones left out. */
function overlaps(file: ConfigFile, list: ListName): readonly Problem[] {
  const raw = valueAt(file.value, [list]);
  const byName = new Map<string, Placed[]>();
  const problems: Problem[] = [];
  for (const [index, value] of Array.isArray(raw) ? raw.entries() : []) {
    const parsed = lists[list].entry.safeParse(value);
    if (!parsed.success) continue;
    const { from, to } = parsed.data;
    if (from !== undefined && to !== undefined && to <= from) {
      const path = `${list}[${index}].to`;
      const message = `Cannot use ${path}: it is not after from (${String(valueAt(value, ["from"]))})`;
      problems.push({ path, message, at: file.locate([list, index, "to"]), hint: "`to` is exclusive" });
      continue;
    }
    const names = lists[list].names as (one: typeof parsed.data) => readonly string[];
    for (const name of names(parsed.data)) {
      const named = byName.get(name) ?? [];
      byName.set(name, named);
      named.push({ index, from, to });
    }
  }
  const clashes = new Map<number, string>();
  for (const [name, entries] of byName) {
    entries.sort((one, other) => compare(one.from, other.from) || one.index - other.index);
    let last: Placed | undefined;
    for (const one of entries) {
      const clash =
        last !== undefined && (last.to === undefined || one.from === undefined || one.from < last.to);
      if (last !== undefined && clash) {
        const [first = 0, second = 0] = [last.index, one.index].sort((a, b) => a - b);
        clashes.set(second, `${list}[${first}] (${name})`);
      }
      if (last === undefined || (last.to !== undefined && (one.to === undefined || one.to > last.to)))
        last = one;
    }
  }
  for (const [index, other] of clashes) {
    const path = `${list}[${index}]`;
    problems.push({
      path,
      message: `Cannot use ${path}: it holds at the same time as ${other}`,
      at: file.locate([list, index]),
      hint: "give the earlier entry a `to` equal to the later entry's `from`; `to` is exclusive",
    });
  }
  return problems;
}

function compare(one: UnixNanos | undefined, other: UnixNanos | undefined): number {
  if (one === other) return 0;
  return one === undefined || (other !== undefined && one < other) ? -1 : 1;
}

function catalogueOf({ version, currency, outcomes, ...file }: z.output<typeof priceFile>): Catalogue {
  // Bookings of successive prices are told apart by the day the price began, two of one day by the instant.
  const beginnings = new Map<string, Set<UnixNanos>>();
  for (const { from } of Object.values(file).flat()) {
    if (from === undefined) continue;
    const day = formatInstant(from).slice(0, 10);
    beginnings.set(day, (beginnings.get(day) ?? new Set()).add(from));
  }
  const versionFrom = (from: UnixNanos): string => {
    const began = formatInstant(from);
    const day = began.slice(0, 10);
    return `${version}/${(beginnings.get(day)?.size ?? 0) > 1 ? began : day}`;
  };
  const entryOf = ({ from, to, source }: EntryFields) => ({
    from,
    to,
    source,
    version: from === undefined ? version : versionFrom(from),
  });
  return {
    version,
    currency,
    outcomes: [...new Set(outcomes)],
    gpus: file.gpus.map((one) => ({
      ...entryOf(one),
      gpu: one.gpu,
      perGpuHour: one.pricePerGpuHour,
      energyIncluded: one.energyIncluded,
    })),
    tokens: file.tokens.flatMap((one) =>
      kinds[one.kind].map((kind) => ({
        ...entryOf(one),
        model: one.model,
        kind,
        perMillion: one.pricePerMillionTokens,
      })),
    ),
    energy: file.energy.map((one) => ({
      ...entryOf(one),
      perKilowattHour: one.pricePerKilowattHour,
      usageEffectivenessMilli: one.powerUsageEffectiveness,
    })),
    capacity: file.capacity.map((one) => ({
      ...entryOf(one),
      gpu: one.gpu,
      model: one.model,
      tokensPerGpuHour: one.tokensPerGpuHour,
    })),
  };
}

/** `2026-01-31`, with the time of day where it is not midnight UTC. */
function formatInstant(at: UnixNanos): string {
  return new Date(Number(at / 1_000_000n)).toISOString().replace("T00:00:00.000Z", "");
}
