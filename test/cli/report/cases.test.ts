// Bills that were once wrong, each a story of usage pushed by gRPC messages, a clock that is moved and price files that
// change (fixtures/bills): played through the receiver's reader, the books and a ledger file, then reported.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { Books } from "../../../agent/meter/books.ts";
import type { ServerInfo, StateRow } from "../../../agent/model.ts";
import { ReceiverMemory } from "../../../agent/servers/receive/memory.ts";
import { UsageTotals } from "../../../agent/servers/receive/usage-totals.ts";
import { createUsageReader } from "../../../agent/servers/usage-reports.ts";
import { catalogueOf } from "../../fakes/catalogue.ts";
import { ReportUsageRequestSchema, ReportUsageResponseSchema } from "../../gen/tokenwatt/v1/usage_pb.ts";
import { factsOf } from "../../meter/fixtures.ts";
import { LedgerAtOnce } from "../../store/ledger/ledger-at-once.ts";
import { runCommand } from "../capture-io.ts";
import { parseCsv } from "./parse-csv.ts";

interface Pushed {
  readonly id: string;
  readonly at?: string;
  readonly model?: string;
  readonly tenant?: string;
  readonly endpoint?: string;
  readonly outcome?: string;
  readonly corrects?: string;
  readonly isVoid?: boolean;
  readonly tokens?: Readonly<Record<string, number>>;
}
interface Story {
  readonly name: string;
  readonly why: string;
  readonly start: string;
  readonly prices?: readonly string[];
  readonly steps: readonly {
    readonly clock?: string;
    readonly prices?: readonly string[];
    readonly push?: readonly Pushed[];
    readonly many?: { readonly count: number; readonly tokens: number; readonly tenant: string };
    readonly expectAnswer?: Readonly<Record<string, unknown>>;
  }[];
  readonly checks: readonly {
    readonly command: readonly string[];
    readonly rows?: readonly {
      readonly match: Readonly<Record<string, string>>;
      readonly want: Readonly<Record<string, string>>;
    }[];
    readonly noRow?: readonly Readonly<Record<string, string>>[];
  }[];
}

const kinds = ["", "input_uncached", "input_cached", "input_unsplit", "output"];
const outcomes = ["", "ok", "error", "aborted", "rejected"];
const info: ServerInfo = { id: "gw", type: "usage-reports", family: "gateway", address: "a", pollMs: 1000 };
const stories = new URL("../../fixtures/bills/", import.meta.url);

/** An agent reduced to what a bill goes through. */
class Player {
  readonly #start: bigint;
  readonly #books: Books;
  readonly #database: LedgerAtOnce;
  readonly #totals = new UsageTotals(info, 0, "e");
  readonly #memory = new ReceiverMemory("gw");
  readonly #take: ReturnType<typeof createUsageReader>;
  #now: bigint;

  constructor(folder: string, story: Story) {
    this.#start = BigInt(Date.parse(story.start)) * 1_000_000n;
    this.#now = this.#start;
    const prices = story.prices ?? ["version: none", "currency: USD"];
    this.#database = new LedgerAtOnce({ folder, pid: 1, freeBytesMin: 0 });
    const unixNanos = (at: number): bigint => this.#start + BigInt(Math.round(at));
    this.#books = new Books({ start: this.#start, unixNanos, catalogue: catalogueOf(prices.join("\n")) });
    this.#take = createUsageReader({
      totals: this.#totals,
      clock: { now: () => this.#nanos(), unixNanos },
      memory: this.#memory,
      stored: { find: async (ids) => this.#database.findUsage(ids) },
    });
  }

  /** Moves the clock on and commits. */
  go(time: bigint): void {
    this.#now = time;
    this.#commit();
  }

  reprice(prices: readonly string[]): void {
    this.#books.setCatalogue(catalogueOf(prices.join("\n")), this.#nanos());
  }

  async push(records: readonly Pushed[]): Promise<Record<string, unknown>> {
    const request = create(ReportUsageRequestSchema, {
      source: "gw",
      records: records.map((one) => ({
        id: one.id,
        endTimeUnixNanos: one.at === undefined ? this.#now : BigInt(Date.parse(one.at)) * 1_000_000n,
        model: one.model ?? "m",
        tenant: one.tenant ?? "",
        endpoint: one.endpoint ?? "",
        outcome: outcomes.indexOf(one.outcome ?? "ok"),
        corrects: one.corrects ?? "",
        isVoid: one.isVoid ?? false,
        requests: 1n,
        tokens: Object.entries(one.tokens ?? {}).map(([kind, tokens]) => ({
          kind: kinds.indexOf(kind),
          tokens: BigInt(tokens),
        })),
      })),
    });
    const { answer, onRecorded } = await this.#take(Buffer.from(toBinary(ReportUsageRequestSchema, request)));
    this.#now += 2_500_000_000n;
    this.#commit();
    onRecorded();
    const { accepted, conflicts, duplicates, refused } = fromBinary(ReportUsageResponseSchema, answer);
    return {
      accepted: Number(accepted),
      duplicates: Number(duplicates),
      conflicts: Number(conflicts),
      refused: refused.length,
    };
  }

  close(): void {
    this.#commit();
    this.#database.close();
  }

  #nanos(): number {
    return Number(this.#now - this.#start);
  }

  #commit(): void {
    const sample = this.#totals.sample(this.#nanos(), "gateway");
    this.#books.postUsage("gateway", sample.usage ?? [], factsOf({ gateway: true }), this.#nanos());
    const state: readonly StateRow[] = this.#memory.takeChanges();
    this.#database.commit(this.#books.commit(this.#now, this.#nanos(), state).batch);
  }
}

async function play(story: Story, folder: string): Promise<void> {
  const player = new Player(folder, story);
  for (const step of story.steps) {
    if (step.clock !== undefined) player.go(BigInt(Date.parse(step.clock)) * 1_000_000n);
    if (step.prices !== undefined) player.reprice(step.prices);
    if (step.push !== undefined) {
      const answer = await player.push(step.push);
      if (step.expectAnswer !== undefined) expect(answer).toMatchObject(step.expectAnswer);
    }
    const { count = 0, tenant = "", tokens = 0 } = step.many ?? {};
    const many = Array.from({ length: count }, (_, index) => ({
      id: `i${index}`,
      tenant: `${tenant}${index}`,
      tokens: { output: tokens },
    }));
    if (many.length > 0) await player.push(many);
  }
  player.close();
}

function rowsOf(command: readonly string[], text: string): readonly Readonly<Record<string, string>>[] {
  if (!command.includes("cloudevents")) return parseCsv(text);
  return text
    .trim()
    .split("\n")
    .map((line) => {
      const event = JSON.parse(line) as Record<string, string> & { data: Record<string, string> };
      return { ...event.data, subject: event["subject"] ?? "" };
    });
}

/** Instants are the same however they are written. */
function plain(value: unknown): string {
  const text = String(value);
  return /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(text) ? String(Date.parse(text)) : text;
}

describe("tokenwatt report of", () => {
  const names = readdirSync(stories);
  test.each(names)("%s", async (name) => {
    const story = JSON.parse(readFileSync(new URL(name, stories), "utf8")) as Story;
    const folder = mkdtempSync(join(tmpdir(), "story-"));
    try {
      await play(story, folder);
      for (const { command, noRow = [], rows = [] } of story.checks) {
        const { exitCode, stderr, stdout } = await runCommand([...command, "--state-dir", folder]);
        expect(exitCode, stderr).toBe(0);
        const found = rowsOf(command, stdout);
        for (const { match, want } of rows) {
          const fitting = found.filter((row) =>
            Object.entries(match).every(([key, value]) => plain(row[key] ?? "") === plain(value)),
          );
          expect(fitting, `${story.why}: ${JSON.stringify(match)}`).toHaveLength(1);
          for (const [key, value] of Object.entries(want)) {
            const got = fitting[0]?.[key] ?? "";
            const isNumber = got !== "" && Number.isFinite(Number(value));
            expect(isNumber ? Number(got) : plain(got), `${story.why}: ${key}`).toBe(
              isNumber ? Number(value) : plain(value),
            );
          }
        }
        for (const pattern of noRow) {
          const [[key, text] = ["", ""]] = Object.entries(pattern);
          expect(
            found.map((row) => row[key] ?? "").filter((value) => new RegExp(text, "u").test(value)),
            story.why,
          ).toEqual([]);
        }
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
