// The law of a beat, against an oracle: whatever fails at whatever point of which beats, once a beat passes the ledger is,
// row by row, that of an agent whose beats never failed, and what was sent tells every series whole.
// Real books, ledger file, encoder and spool; what fails is put between them.
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { BeatWriter } from "../../agent/daemon/beat-writer.ts";
import { createOtlpEncoder } from "../../agent/export/otlp/encoder.ts";
import { Books } from "../../agent/meter/books.ts";
import type { LedgerBatch } from "../../agent/model.ts";
import { memorySpool } from "../../agent/store/spool/memory-spool.ts";
import type { SpoolEntry } from "../../agent/store/spool/spool.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import type { FlatPoint } from "../export/otlp-decode.ts";
import { decodeAll } from "../export/otlp-decode.ts";
import { factsOf, intervalOf, moved, SECOND, START, unixNanos } from "../meter/fixtures.ts";
import { temporaryFolder } from "../store/ledger/fixture.ts";
import { LedgerAtOnce } from "../store/ledger/ledger-at-once.ts";

const removals: (() => void)[] = [];
afterEach(() => {
  for (const remove of removals.splice(0)) remove();
});

const faults = ["books", "encode", "encode late", "spool", "store"] as const;

/** A beat: what happened before it, and what of it fails. */
const step = fc.record({
  seconds: fc.constantFrom(10, 300, 900, 2000),
  tenant: fc.constantFrom("a", "b", "c"),
  tokens: fc.nat(5000),
  ends: fc.constantFrom(undefined, undefined, "a", "b"),
  fails: fc.option(fc.constantFrom(...faults), { nil: undefined, freq: 2 }),
});
type Step = Omit<typeof step extends fc.Arbitrary<infer One> ? One : never, "fails">;

/** An agent reduced to its beats. */
class Host {
  readonly books = new Books({ start: START, unixNanos, tenantsMax: 10 });
  readonly sent: FlatPoint[] = [];
  readonly #writer: BeatWriter;
  readonly #database: LedgerAtOnce;
  readonly #spool = memorySpool(["main"], 1e9);
  readonly #folder: string;
  #fails: (typeof faults)[number] | undefined;
  #until = 0;
  #beats = 0;

  constructor() {
    const { folder, remove } = temporaryFolder();
    removals.push(remove);
    this.#folder = folder;
    this.#database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0 }, () => {
      if (this.#fails === "store") throw new Error("the disk takes nothing");
      return 1;
    });
    const encoder = createOtlpEncoder({ resource: {}, version: "0", pointsMax: 5 });
    this.#writer = new BeatWriter({
      books: {
        commit: (...beat) => {
          if (this.#fails === "books") throw new Error("cannot be committed");
          return this.books.commit(...beat);
        },
        sayAgain: () => this.books.sayAgain(),
      },
      store: { commit: async (batch: LedgerBatch) => this.#database.commit(batch) },
      encoder: { stream: (snapshot) => this.#encoded(encoder.stream(snapshot)) },
      spool: {
        isDurable: false,
        append: async (entries) => {
          if (this.#fails === "spool") throw new Error("the spool takes nothing");
          return this.#spool.append(entries);
        },
        commit: (sequence) => this.#spool.commit(sequence),
      },
    });
  }

  *#encoded(entries: Iterable<SpoolEntry>): Generator<SpoolEntry> {
    if (this.#fails === "encode") throw new Error("cannot be encoded");
    let isFirst = true;
    for (const entry of entries) {
      yield entry;
      if (isFirst && this.#fails === "encode late") throw new Error("cannot be encoded to the end");
      isFirst = false;
    }
  }

  /** Uses what the step says, and beats. False where the beat failed. */
  async live({ ends, seconds, tenant, tokens }: Step, fails?: (typeof faults)[number]): Promise<boolean> {
    const from = this.#until;
    this.#until += seconds;
    const [engine, gateway] = [
      moved({ tokens: { output: 1000 } }),
      moved({ server: "g", family: "gateway", tenant, tokens: { output: tokens } }),
    ];
    const states = { seconds: { token_active: seconds }, joules: { token_active: 300 * seconds } };
    const interval = intervalOf({ from, to: this.#until, ...states, increments: [engine, gateway] });
    this.books.bookInterval(interval, factsOf({ gateway: true }));
    if (ends !== undefined)
      this.books.ledger.endWhere((dimensions) => dimensions["tokenwatt.tenant"] === ends);
    this.books.noteAudit("config", this.#until * SECOND, { beat: ++this.#beats });
    this.#fails = fails;
    this.#writer.takeRows([
      { key: `["beat",${this.#beats % 4}]`, value: String(this.#beats) },
      { key: '["newest"]', value: String(this.#beats) },
    ]);
    const end = this.#until * SECOND;
    const written = await this.#writer.write(unixNanos(end), end).catch(() => undefined);
    await this.#send();
    return written !== undefined && written.unspooled === undefined;
  }

  /** What is stored, by name: numbers, starts and ends of series follow from when a beat committed what. */
  stored(): readonly unknown[] {
    const database = new DatabaseSync(ledgerPath(this.#folder), { readOnly: true });
    const named = "metric, dimensions";
    const all = [
      `SELECT ${named}, total, histogram, ended IS NULL AS lives FROM series ORDER BY ${named}`,
      `SELECT bucket, ${named}, amount, rows.histogram, revision FROM rows JOIN series ON id = series ORDER BY bucket, ${named}`,
      `SELECT day, ${named}, amount, days.histogram FROM days JOIN series ON id = series ORDER BY day, ${named}`,
      `SELECT key, value FROM state WHERE key <> '["resting"]' ORDER BY key`,
      "SELECT bucket, revision, quality, figures FROM buckets ORDER BY bucket, revision",
      "SELECT kind, json_remove(body, '$.digest') AS body FROM audit ORDER BY kind, body",
    ].map((query) => database.prepare(query).all());
    database.close();
    return all;
  }

  /** The stored rows that the beats handed over. */
  rows(): ReadonlyMap<unknown, unknown> {
    const database = new DatabaseSync(ledgerPath(this.#folder), { readOnly: true });
    const query = "SELECT key, value FROM state WHERE key LIKE '%beat%' OR key LIKE '%newest%'";
    const rows = database.prepare(query).all();
    database.close();
    return new Map(rows.map(({ key, value }) => [key, value]));
  }

  async #send(): Promise<void> {
    for (;;) {
      const header = this.#spool.peek(this.#spool.position("main"));
      if (header === undefined) return;
      this.sent.push(...decodeAll([(await this.#spool.read(header.sequence)) as Uint8Array]));
      await this.#spool.acknowledge("main", header.sequence);
    }
  }
}

/** The rows that so many beats hand over, as they are known by their keys. */
function rowsAfter(beats: number): ReadonlyMap<unknown, unknown> {
  const numbers = Array.from({ length: beats }, (_, index) => index + 1);
  return new Map([
    ...numbers.map((beat) => [`["beat",${beat % 4}]`, String(beat)] as const),
    ['["newest"]', String(beats)],
  ]);
}

/** What was sent of each series under each start, in the order it was sent. */
function bySeries(sent: readonly FlatPoint[]): ReadonlyMap<string, readonly FlatPoint[]> {
  return Map.groupBy(sent, ({ attributes, metric }) => {
    const names = Object.entries(attributes).toSorted(([one], [other]) => (one < other ? -1 : 1));
    return JSON.stringify([metric, names]);
  });
}

/** How a series stands for who was sent these points. */
function standing(points: readonly FlatPoint[]): unknown {
  const last = points.at(-1);
  return last?.flags === 1 ? "ended" : (last?.value ?? last?.histogram);
}

test("a beat that fails anywhere costs nothing once a later one passes: totals, closings, zeros and ends come once", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
      const [host, twin] = [new Host(), new Host()];
      const last: Step = { seconds: 900, tenant: "a", tokens: 1, ends: undefined };
      for (const { fails, ...one } of [...steps, { ...last, fails: undefined }]) {
        const before = host.sent.length;
        expect(await host.live(one, fails)).toBe(fails === undefined);
        // What the ledger does not have is promised to no destination.
        if (fails === "store") expect(host.sent).toHaveLength(before);
        // What closes and what ends in a beat follows from when the books commit: the twin's do not either.
        await twin.live(one, fails === "books" ? fails : undefined);
      }
      expect(host.stored()).toEqual(twin.stored());
      expect(host.rows()).toEqual(rowsAfter(steps.length + 1));
      const [told, wanted] = [bySeries(host.sent), bySeries(twin.sent)];
      expect([...told.keys()].toSorted()).toEqual([...wanted.keys()].toSorted());
      for (const [name, points] of told) {
        expect([name, standing(points)]).toEqual([name, standing(wanted.get(name) ?? [])]);
        if (points[0]?.kind === "gauge") continue;
        const zeros = points.filter(({ start, time }) => time === start + 1_000_000n);
        expect([name, zeros.length]).toEqual([name, 1]);
        // What comes back begins where it ended.
        for (const [index, { flags }] of points.entries())
          if (flags === 1 && index + 1 < points.length)
            expect([name, points[index + 1]?.value]).toEqual([name, points[index - 1]?.value]);
        // Nothing is sent twice, and nothing behind what was sent before.
        const times = points.map(({ time }) => time);
        expect(times).toEqual([...new Set(times)].toSorted((a, b) => (a < b ? -1 : 1)));
      }
    }),
    { numRuns: 15 },
  );
}, 60_000);
