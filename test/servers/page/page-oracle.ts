// A server, or several behind one address, whose true tokens are known, and an agent that reads its pages: what it books is
// compared with what was made. Pages go through the real parser, bases, readings and increments.
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { SourceNote, StateRow } from "../../../agent/model.ts";
import { createPageParser } from "../../../agent/page/parse.ts";
import { SeriesBases } from "../../../agent/servers/page/bases.ts";
import { startEpoch } from "../../../agent/servers/page/labels.ts";
import { PageReadings } from "../../../agent/servers/page/readings.ts";

const SECOND = 1e9;
/** Unix seconds of the agent's instant 0. */
const BEGAN = 1_000_000;

/** How pages tell one process from the next. */
export type Identity = "start" | "created" | "none";

interface Series {
  value: number;
  created: number;
  /** Made and never shown on a page. */
  unseen: number;
  gone: boolean;
}

/** One process: counters by series. */
export class Process {
  readonly start: number;
  readonly series = new Map<string, Series>();

  constructor(start: number) {
    this.start = start;
  }

  make(name: string, tokens: number, now: number): void {
    const known = this.series.get(name);
    if (known !== undefined && !known.gone) {
      known.value += tokens;
      known.unseen += tokens;
    } else this.series.set(name, { value: tokens, created: now, unseen: tokens, gone: false });
  }

  /** The series is dropped, and begins at zero with its next event; what no page showed of it is lost to everybody. */
  evict(name: string): void {
    const known = this.series.get(name);
    if (known !== undefined) known.gone = true;
  }
}

/** What happens to one page on its way. */
export interface Damage {
  /** Of the page's lines this many are lost at its end, over a connection that does not say so. */
  readonly cut?: number;
  /** Names of series that read NaN, or one less than they are. */
  readonly nan?: string;
  readonly less?: string;
  /** Name of a series that reads a value no counter has. */
  readonly negative?: string;
  /** The connection is another one. */
  readonly renewed?: boolean;
}

/** The page a process writes now. */
export function pageOf(process: Process, identity: Identity, damage: Damage): string {
  const lines: string[] = [];
  if (identity === "start") lines.push(`process_start_time_seconds ${process.start}`);
  for (const [name, { created, gone, value }] of process.series) {
    if (gone) continue;
    const less = Math.max(0, value - (damage.less === name ? 1 : 0));
    const shown = damage.nan === name ? "NaN" : damage.negative === name ? "-1" : String(less);
    if (identity === "created") lines.push(`tokens_created{user="${name}"} ${created}`);
    lines.push(`tokens_total{user="${name}"} ${shown}`);
  }
  return lines
    .slice(0, Math.max(0, lines.length - (damage.cut ?? 0)))
    .join("\n")
    .concat("\n");
}

/** An agent that reads pages, may be restarted, and remembers what it booked and said. */
export class Agent {
  now = 10;
  booked = 0;
  resets = 0;
  readonly notes: SourceNote[] = [];
  readonly #options: { readonly bornAtZero: boolean; readonly seriesMax?: number };
  #parser = createPageParser();
  #bases: SeriesBases;
  #increments = new Increments({ agentStarted: 0 });
  #failed = true;
  readonly #rows = new Map<string, string>();
  rowBytes = 0;

  constructor(options: { readonly bornAtZero: boolean; readonly seriesMax?: number }) {
    this.#options = options;
    this.#bases = new SeriesBases(options);
  }

  /** Unix seconds now. */
  get unix(): number {
    return BEGAN + this.now;
  }

  fail(): void {
    this.#failed = true;
  }

  /** Reads a page; returns what it booked. */
  look(text: string, { cut = 0, renewed = false }: Damage = {}): number {
    const at = this.now * SECOND;
    const page = this.#parser.parse(Buffer.from(text), cut > 0 ? "open" : "complete");
    const instant = (seconds: number): number => (seconds - BEGAN) * SECOND;
    const start = page.samples.get("process_start_time_seconds")?.[0]?.value;
    const created = (page.samples.get("tokens_created") ?? []).map(({ value }) => instant(value));
    const counted = this.#bases.take(page, {
      at,
      epoch: start === undefined ? undefined : startEpoch(start),
      began: start === undefined ? undefined : instant(start),
      oldest: () => (created.length > 0 ? Math.min(...created) : undefined),
      instant,
      interrupted: this.#failed ? "failed" : renewed ? "renewed" : undefined,
      whole: cut === 0 && page.ignoredSamples === 0,
    });
    this.#failed = false;
    const readings = new PageReadings(counted.page, "finish", {}, undefined, this.#bases);
    readings.tokens("output", "tokens");
    readings.epoch();
    this.notes.push(...counted.notes);
    const { increments, resets } = this.#increments.countSample({
      server: "s",
      family: "engine",
      sent: at,
      received: at,
      at,
      readings: readings.finish().readings.map((reading) => ({
        ...reading,
        ...(counted.began === undefined ? {} : { epochBegan: counted.began }),
      })),
      scale: this.#bases.scale,
      restarts: counted.restarts,
      ignoredSamples: 0,
      errors: [],
    });
    const moved = increments.reduce((sum, { tokens }) => sum + (tokens.output ?? 0), 0);
    this.booked += moved;
    this.resets += resets;
    return moved;
  }

  /** Stores what has changed, as a commit does. */
  commit(): void {
    for (const { key, value } of this.#changes()) {
      this.rowBytes += key.length + value.length;
      if (value === "") this.#rows.delete(key);
      else this.#rows.set(key, value);
    }
  }

  /** The agent ends right after a commit and another one goes on; the one that ended was `older` than this form of rows. */
  restart(older = false): void {
    this.commit();
    const rows = [...this.#rows].map(([key, value]) => ({ key, value: older ? inFirstForm(value) : value }));
    const instant = (unix: bigint): number => Number(unix);
    this.#parser = createPageParser();
    this.#bases = new SeriesBases({ ...this.#options, rows, instant });
    this.#increments = new Increments({ agentStarted: this.now * SECOND });
    this.#increments.restore(
      rows.filter(({ key }) => key.startsWith('["sample"')),
      instant,
    );
    this.#failed = true;
  }

  #changes(): StateRow[] {
    return [
      ...this.#bases.takeChanges(["receiver", "s"], (at) => BigInt(at)),
      ...this.#increments.takeChanges((at) => BigInt(at)),
    ];
  }
}

/** A row of bases as it was written first: last values in full, where they are the counted ones too. */
function inFirstForm(value: string): string {
  const row = JSON.parse(value) as { v?: number; c?: unknown; r?: Record<string, unknown> };
  if (row.v === 2) row.v = 1;
  for (const run in row.r) if (row.r[run] === "c") row.r[run] = row.c;
  return JSON.stringify(row);
}
