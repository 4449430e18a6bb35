// A page that is said to show what the one before did is not gathered again, and its readings are not compared again.
// The law, against a reader that does both for every page: whatever answers, falls, goes, waits or begins again in between,
// both count, say and store the same. Pages go through the real parser, bases, readings and increments.
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Accepted } from "../../../agent/meter/counters/increments.ts";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { StateRow, TokenReading } from "../../../agent/model.ts";
import { createPageParser } from "../../../agent/page/parse.ts";
import type { CountedPage } from "../../../agent/servers/page/bases.ts";
import { SeriesBases } from "../../../agent/servers/page/bases.ts";
import { startEpoch } from "../../../agent/servers/page/labels.ts";
import { PageReadings } from "../../../agent/servers/page/readings.ts";
import type { PageReading } from "../../../agent/source.ts";

const SECOND = 1e9;
/** Unix seconds of the agent's instant 0. */
const BEGAN = 1_000_000;
const USERS = ["a", "b", "c", "d", "e"] as const;

/** How pages tell one process from the next. */
type Naming = "start" | "created" | "header" | "none";

interface World {
  readonly naming: Naming;
  readonly bornAtZero: boolean;
  readonly seriesMax?: number;
  /** Factor of all values: of counters of a few events a restart shows less. */
  readonly size: number;
}

interface Process {
  epoch: number;
  running: number;
  readonly series: Map<string, { value: number; created: number }>;
}

/** One look at a page. */
interface Look {
  readonly process: number;
  /** What came before it: a failed look, a new connection, or neither. */
  readonly after: "failed" | "renewed" | undefined;
  readonly form:
    | "plain"
    | "open"
    | "junk"
    | "cut"
    | "garbled"
    | "nan"
    | "stamped"
    | "reversed"
    | "emptied"
    | "negative";
  readonly line: number;
  readonly waitSeconds: number;
}

/** What happens between looks. */
interface Happening {
  readonly kind: "nothing" | "make" | "fall" | "running" | "again" | "copy" | "evict" | "agent";
  readonly process: number;
  readonly user: number;
  readonly amount: number;
  readonly looks: readonly Look[];
}

function written({ epoch, running, series }: Process, { naming, size }: World, { form, line }: Look): string {
  const lines: string[] = naming === "start" ? [`process_start_time_seconds ${epoch}`] : [];
  for (const [user, { created, value }] of form === "emptied" ? [] : series) {
    if (naming === "created") lines.push(`tokens_created{user="${user}"} ${created}`);
    lines.push(`tokens_total{user="${user}"} ${value * size}`, `requests_total{user="${user}"} ${value}`);
  }
  lines.push(
    `running{user="a"} ${form === "nan" ? "NaN" : running}`,
    `never_total ${form === "negative" ? -1 : 0}`,
  );
  if (form === "reversed") lines.reverse();
  if (form === "junk") lines.push("x{ 1");
  const at = line % lines.length;
  if (form === "garbled") lines[at] = `${lines[at]?.split("{")[0]}{user=`;
  if (form === "stamped") return `${lines.map((one) => `${one} ${1000 + line}`).join("\n")}\n`;
  if (form === "cut") return `${lines.slice(0, at).join("\n")}\n`;
  return `${lines.join("\n")}\n`;
}

/** An agent that reads pages with the shortcut, or reads every page whole. */
class Reader {
  readonly #world: World;
  readonly #isShort: boolean;
  #parser = createPageParser();
  #bases: SeriesBases;
  #increments = new Increments({ agentStarted: 0 });
  #last: PageReading | undefined;
  #failed = true;
  readonly #rows = new Map<string, string>();

  constructor(world: World, isShort: boolean) {
    this.#world = world;
    this.#isShort = isShort;
    this.#bases = new SeriesBases(world);
  }

  /** The look failed. */
  fail(): void {
    this.#failed = true;
    this.#increments.interrupt("s");
  }

  look(text: string, { epoch }: Process, how: Look, now: number): Seen {
    const at = now * SECOND;
    const instant = (seconds: number): number => (seconds - BEGAN) * SECOND;
    const isOpen = how.form === "cut" || how.form === "open";
    const parsed = this.#parser.parse(Buffer.from(text), isOpen ? "open" : "complete");
    const start = parsed.samples.get("process_start_time_seconds")?.[0]?.value;
    const created = (parsed.samples.get("tokens_created") ?? []).map(({ value }) => instant(value));
    const isHeader = this.#world.naming === "header";
    // Another map each time: no page goes on from the one before.
    const page = this.#isShort ? parsed : { ...parsed, isSame: false, samples: new Map(parsed.samples) };
    const before = this.#place();
    const counted = this.#bases.take(page, {
      at,
      epoch: start === undefined ? (isHeader ? `header:${epoch}` : undefined) : startEpoch(start),
      began: start === undefined ? undefined : instant(start),
      oldest: () => (created.length > 0 ? Math.min(...created) : undefined),
      instant,
      interrupted: this.#failed ? "failed" : how.after === "renewed" ? "renewed" : undefined,
      whole: !isOpen && parsed.ignoredSamples === 0 && parsed.errors.length === 0,
    });
    this.#failed = false;
    const reading = (counted.isSame ? this.#last : undefined) ?? this.#read(counted);
    this.#last = reading.errors.length === 0 ? reading : undefined;
    const { ignoredSamples, errors } = reading;
    const readings = reading.readings.toSorted(byModel);
    const { began, restarts, notes } = counted;
    const { scale } = this.#bases;
    const head = { server: "s", family: "engine", sent: at, received: at, at } as const;
    const accepted = this.#increments.countSample({
      ...head,
      readings,
      scale,
      restarts,
      ignoredSamples,
      errors,
    });
    const place = this.#place();
    const turn = { goesOn: before.run === place.run, isHeld: before.page === place.page };
    return {
      ...turn,
      counted,
      accepted,
      said: { ...{ began, restarts, notes, scale, readings, ignoredSamples, errors }, accepted },
    };
  }

  /** The process that answered last, and its last page that was not held back. */
  #place(): { readonly run: number | undefined; readonly page: number | undefined } {
    const { current } = this.#bases.shared;
    return { run: current?.id, page: current?.page };
  }

  #read({ page }: CountedPage): PageReading {
    const gathered = new PageReadings(page, "finish", { modelLabel: "user" }, undefined, this.#bases);
    gathered.tokens("output", "tokens");
    gathered.requests("requests", () => "ok");
    gathered.requests("never", () => "error");
    gathered.inFlight("running", "running");
    gathered.epoch();
    return gathered.finish();
  }

  /** Stores what changed, and says what that was. */
  commit(): readonly StateRow[] {
    const rows = [
      ...this.#bases.takeChanges(["receiver", "s"], (at) => BigInt(at)),
      ...this.#increments.takeChanges((at) => BigInt(at)),
    ];
    for (const { key, value } of rows) {
      if (value === "") this.#rows.delete(key);
      else this.#rows.set(key, value);
    }
    return rows;
  }

  /** Another agent goes on from what was stored. */
  restart(now: number): void {
    const rows = [...this.#rows].map(([key, value]) => ({ key, value }));
    const instant = (unix: bigint): number => Number(unix);
    this.#parser = createPageParser();
    this.#last = undefined;
    this.#failed = true;
    this.#bases = new SeriesBases({ ...this.#world, rows, instant });
    this.#increments = new Increments({ agentStarted: now * SECOND });
    this.#increments.restore(
      rows.filter(({ key }) => key.startsWith('["sample"')),
      instant,
    );
  }
}

/** Readings have no order that means anything. */
function byModel({ model: one = "" }: TokenReading, { model: other = "" }: TokenReading): number {
  return one < other ? -1 : 1;
}

/** What one look came to. */
interface Seen {
  readonly counted: CountedPage;
  /** The process of the page before answered. */
  readonly goesOn: boolean;
  readonly isHeld: boolean;
  readonly accepted: Accepted;
  readonly said: unknown;
}

const look: fc.Arbitrary<Look> = fc.record({
  process: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: fc.nat(2) }),
  after: fc.oneof(
    { weight: 6, arbitrary: fc.constant(undefined) },
    { weight: 2, arbitrary: fc.constantFrom("failed" as const, "renewed" as const) },
  ),
  form: fc.oneof(
    { weight: 8, arbitrary: fc.constant("plain" as const) },
    {
      weight: 3,
      arbitrary: fc.constantFrom(
        ...([
          "open",
          "open",
          "junk",
          "cut",
          "garbled",
          "nan",
          "stamped",
          "reversed",
          "emptied",
          "negative",
        ] as const),
      ),
    },
  ),
  line: fc.nat(12),
  waitSeconds: fc.oneof(
    { weight: 8, arbitrary: fc.constant(5) },
    { weight: 1, arbitrary: fc.constantFrom(0, 3700, 90_000) },
  ),
});
/** A page is looked at several times in the same way, as a server at rest is. */
const looks = fc
  .array(fc.tuple(look, fc.integer({ min: 1, max: 4 })), { minLength: 1, maxLength: 3 })
  .map((all) =>
    all.flatMap(([one, times]) =>
      Array.from({ length: times }, (_, again) => (again === 0 ? one : { ...one, waitSeconds: 5 })),
    ),
  );
const happening: fc.Arbitrary<Happening> = fc.record({
  kind: fc.constantFrom(
    ...(["nothing", "make", "make", "fall", "running", "again", "copy", "evict", "agent"] as const),
  ),
  process: fc.nat(2),
  user: fc.nat(USERS.length - 1),
  amount: fc.oneof(fc.nat(6), fc.nat(5000)),
  looks,
});

function happen(all: Process[], { amount, kind, process, user }: Happening, unix: number): void {
  const one = all[process] as Process;
  const name = USERS[user] as string;
  const series = one.series.get(name);
  if (kind === "make") {
    if (series === undefined) one.series.set(name, { value: amount, created: unix });
    else series.value += amount;
  } else if (kind === "fall" && series !== undefined)
    series.value = Math.floor(series.value / (1 + (amount % 4)));
  else if (kind === "running") one.running = amount % 3;
  else if (kind === "evict") one.series.delete(name);
  else if (kind === "again")
    all[process] = {
      epoch: unix,
      running: 0,
      series: new Map([[name, { value: amount % 9, created: unix }]]),
    };
  // Another process that shows what this one did.
  else if (kind === "copy") one.epoch = unix;
}

/** Ten times as fast as `toEqual`, which then says what differs. */
function expectEqual(one: unknown, other: unknown): void {
  if (!isDeepStrictEqual(one, other)) expect(one).toEqual(other);
}

/** Both readers over the same pages; returns how often the shortcut was taken. */
function follow(world: World, happenings: readonly Happening[]): number {
  let now = 10;
  let taken = 0;
  const processes = [0, 1, 2].map((number) => ({
    ...{ epoch: BEGAN - 5000 - number, running: 1 },
    series: new Map(
      USERS.slice(0, 3).map((user, at) => [user, { value: 3 + 2 * number + at, created: BEGAN - 100 }]),
    ),
  }));
  const [short, whole] = [new Reader(world, true), new Reader(world, false)];
  let held = true;
  for (const one of happenings) {
    happen(processes, one, BEGAN + now);
    if (one.kind === "agent") for (const reader of [short, whole]) reader.restart(now);
    if (one.kind === "agent") held = true;
    for (const how of one.looks) {
      now += how.waitSeconds;
      const process = processes[how.process] as Process;
      const text = written(process, world, how);
      if (how.after === "failed") for (const reader of [short, whole]) reader.fail();
      const seen = short.look(text, process, how, now);
      expectEqual(seen.said, whole.look(text, process, how, now).said);
      if (seen.counted.isSame) {
        taken++;
        // What it says of itself: the same process, no page was held back, and nothing is to be said.
        const facts = [held, seen.isHeld, seen.goesOn, seen.counted.restarts];
        expectEqual(
          [...facts, seen.counted.notes, seen.accepted.increments],
          [false, false, true, 0, [], []],
        );
      }
      held = seen.isHeld;
      expectEqual(short.commit(), whole.commit());
    }
  }
  return taken;
}

describe("a page that shows what the one before did", () => {
  test.each(["start", "created", "header", "none"] as const)(
    "counts, says and stores what it would if it were read whole, where processes are named by: %s",
    (naming) => {
      let taken = 0;
      const world = fc.record({
        naming: fc.constant(naming),
        bornAtZero: fc.boolean(),
        seriesMax: fc.constantFrom(9, 12, 1000),
        size: fc.constantFrom(1, 100),
      });
      fc.assert(
        fc.property(world, fc.array(happening, { maxLength: 25 }), (one, happenings) => {
          taken += follow(one, happenings);
        }),
        { numRuns: 150 },
      );
      // The shortcut was taken at all.
      expect(taken).toBeGreaterThan(100);
    },
  );

  test("drops a series that went while copies looked alike, with the first page that is newer", () => {
    const plain: Look = { process: 0, after: undefined, form: "plain", line: 0, waitSeconds: 5 };
    const quiet: Happening = { kind: "nothing", process: 0, user: 0, amount: 0, looks: [plain] };
    const other: Look = { ...plain, process: 1 };
    follow({ naming: "start", bornAtZero: true, seriesMax: 9, size: 1 }, [
      { ...quiet, looks: [{ ...other, form: "open" }, plain] },
      { ...quiet, kind: "fall", process: 1, amount: 1 },
      { ...quiet, looks: [other] },
      { ...quiet, kind: "evict", user: 1 },
      { ...quiet, kind: "make", amount: 1 },
    ]);
  });
});
