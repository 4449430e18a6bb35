// What each GPU and each server did lately, for people who look at a running agent: rings of fixed size, a cell a second
// over the last minute and a cell a half minute over the last hour. They hold rounded numbers and nothing else, so that
// they cost next to nothing while nobody looks; whatever has to add up is in the ledger.
import type {
  AllocatedState,
  GpuInterval,
  GpuState,
  Nanos,
  Posting,
  SettledInterval,
  TokenIncrement,
} from "../../model.ts";
import { metTime } from "./sums.ts";

const STATES: readonly GpuState[] = ["token_active", "stalled", "parked", "other", "free", "unobserved"];
/** Places in a cell: seconds of each state, joules of each and of none, and what else is summed. */
const FIELDS = {
  seconds: 0,
  joules: 6,
  unattributed: 12,
  input: 13,
  output: 14,
  cost: 15,
  elapsed: 16,
  unknown: 17,
  held: 18,
} as const;
const WIDTH = 19;
const LINK_WIDTH = 2;
const ROWS_MAX = 512;
const NANOS = 1e9;

/** Sums over some cells of a ring. */
export interface RecentSums {
  readonly seconds: Readonly<Record<GpuState, number>>;
  readonly joules: Readonly<Record<GpuState | "unattributed", number>>;
  readonly input: number;
  readonly output: number;
  /** In the currency of `Recent.currency`. */
  readonly cost: number;
  /** Seconds covered; 0 before the first interval. */
  readonly elapsed: number;
  /** Seconds under the states of which nothing says whether they were token-active; a server's states hold none. */
  readonly unknown: number;
  /** Allocated GPU-seconds of a server; `joules` are then its own, all of them under their states. */
  readonly held: number;
}

/** What a GPU was held for, or is unsure of: seconds and joules of the last minute. */
export interface RecentLink {
  /** `server`, `holder` or `uncertain`. */
  readonly what: LinkKind;
  readonly gpu: string;
  /** A server's id; kind and name of a holder; a reason and the server it is about, if any. */
  readonly name: readonly string[];
  readonly seconds: number;
  readonly joules: number;
  /** Observed seconds of that GPU in the same cells. */
  readonly ofSeconds: number;
}

/** What ties something to a GPU. */
export type LinkKind = "server" | "holder" | "uncertain";

/** The name of the row that adds up all GPUs. */
export const WHOLE_HOST = "";

/** Follows settled intervals. */
export class Recent {
  /** By GPU, by server and for the host, a cell a second. */
  readonly minute = new Ring(1 * NANOS, 60, WIDTH);
  /** By GPU and for the host, a cell a half minute. */
  readonly hour = new Ring(30 * NANOS, 120, WIDTH);
  readonly #links = new Ring(5 * NANOS, 12, LINK_WIDTH);
  /** The GPUs each server is on, or was on last. */
  readonly #homes = new Map<string, Set<string>>();
  /** Of all costs so far; undefined before the first, null where there were several. */
  currency: string | null | undefined;

  /** Takes an interval and what it cost into every ring. */
  addInterval(interval: SettledInterval, money: readonly Posting[] = []): void {
    for (const ring of [this.minute, this.hour, this.#links]) ring.reach(interval.to);
    for (const gpu of interval.gpus) this.#addGpu(gpu, interval.to - interval.from);
    this.#leaveHomes(interval);
    const seconds = (interval.to - interval.from) / NANOS;
    for (const ring of [this.minute, this.hour]) ring.row(WHOLE_HOST)?.add(FIELDS.elapsed, seconds);
    for (const server of interval.servers) this.#addServer(server, interval);
    for (const posting of money) this.#addCost(posting);
  }

  /** Sums of a GPU (by UUID), a server (by id) or the host; undefined where nothing was seen of it. */
  sums(ring: "minute" | "hour", key: string, cell?: number): RecentSums | undefined {
    const found = this[ring].values(key, cell);
    return found === undefined ? undefined : sumsOf(found);
  }

  /** Who held which GPU in the last minute, and what is not sure about it. */
  links(): readonly RecentLink[] {
    const secondsOf = (key: string): number => this.#links.values(key)?.[0] ?? 0;
    return this.#links.keys().flatMap((key) => {
      const [what, gpu, ...name] = JSON.parse(key) as [LinkKind | "observed", string, ...string[]];
      const [seconds = 0, joules = 0] = this.#links.values(key) ?? [];
      if (what === "observed" || (seconds === 0 && joules === 0)) return [];
      return [{ what, gpu, name, seconds, joules, ofSeconds: secondsOf(JSON.stringify(["observed", gpu])) }];
    });
  }

  /** The GPUs a server is on, or was on last. */
  homesOf(server: string): readonly string[] {
    return [...(this.#homes.get(server) ?? [])];
  }

  #addGpu(gpu: SettledInterval["gpus"][number], nanos: Nanos): void {
    for (const ring of [this.minute, this.hour]) {
      const own = ring.row(gpu.gpu);
      addStates(own, gpu);
      own?.add(FIELDS.elapsed, nanos / NANOS);
      addStates(ring.row(WHOLE_HOST), gpu);
    }
    this.#link(["observed", gpu.gpu], allocated(gpu.nanos) + gpu.nanos.other + gpu.nanos.free, 0);
    for (const resident of gpu.residents) {
      this.#link(
        ["server", gpu.gpu, resident.server],
        allocated(resident.nanos),
        allocated(resident.millijoules),
      );
      if (resident.server === "unmetered") continue;
      const own = this.minute.row(resident.server);
      own?.add(FIELDS.held, allocated(resident.nanos) / NANOS);
      for (let place = 0; place < 3; place++)
        own?.add(FIELDS.joules + place, resident.millijoules[STATES[place] as AllocatedState] / 1000);
      const homes = this.#homes.get(resident.server) ?? new Set();
      if (this.#homes.size < ROWS_MAX) this.#homes.set(resident.server, homes.add(gpu.gpu));
    }
    for (const { holder, millijoules, nanos: held } of gpu.holders ?? [])
      this.#link(["holder", gpu.gpu, holder.kind, holder.name], held, millijoules);
    for (const { millijoules, nanos: unsure, reason, server } of gpu.uncertain ?? [])
      this.#link(
        ["uncertain", gpu.gpu, reason, ...(server === undefined ? [] : [server])],
        unsure,
        millijoules,
      );
  }

  /** Forgets GPUs that were read without a server which is on others now: it was started again there. */
  #leaveHomes({ gpus }: SettledInterval): void {
    for (const [server, homes] of this.#homes) {
      if (homes.size < 2) continue;
      const isOn = ({ residents }: GpuInterval): boolean => residents.some((one) => one.server === server);
      if (!gpus.some(isOn)) continue;
      for (const gpu of gpus) if (gpu.nanos.unobserved === 0 && !isOn(gpu)) homes.delete(gpu.gpu);
    }
  }

  #link(name: readonly [LinkKind | "observed", ...string[]], nanos: number, millijoules: number): void {
    const row = this.#links.row(JSON.stringify(name));
    row?.add(0, nanos / NANOS);
    row?.add(1, millijoules / 1000);
  }

  #addServer(
    { increments, nanos, server }: SettledInterval["servers"][number],
    { from, to }: SettledInterval,
  ): void {
    const homes = this.homesOf(server);
    const own = this.minute.row(server);
    own?.add(FIELDS.elapsed, (to - from) / NANOS);
    own?.add(FIELDS.seconds, nanos.token_active / NANOS);
    own?.add(FIELDS.seconds + 1, nanos.stalled / NANOS);
    own?.add(FIELDS.seconds + 2, nanos.parked / NANOS);
    const isCounted = increments.some((one) => one.family === "engine" && metTime(one));
    const rowsOf = (key: string): (Row | undefined)[] => [this.minute.row(key), this.hour.row(key)];
    const whole = isCounted ? rowsOf(WHOLE_HOST) : [];
    const held = isCounted ? homes.flatMap(rowsOf) : [];
    // By place: a gateway has thousands.
    for (let place = 0; place < increments.length; place++) {
      const increment = increments[place] as TokenIncrement;
      if (!metTime(increment)) continue;
      const { family, onGpus, tokens } = increment;
      const output = tokens.output ?? 0;
      const input = (tokens.input_uncached ?? 0) + (tokens.input_cached ?? 0) + (tokens.input_unsplit ?? 0);
      add(own, input, output);
      // A gateway counts what engines count once more.
      if (family !== "engine") continue;
      for (const row of whole) add(row, input, output);
      if (onGpus === undefined) for (const row of held) add(row, input / homes.length, output / homes.length);
      for (const gpu in onGpus)
        for (const row of rowsOf(gpu)) add(row, input * (onGpus[gpu] ?? 0), output * (onGpus[gpu] ?? 0));
    }
  }

  #addCost({ amount, dimensions, metric }: Posting): void {
    if (metric !== "tokenwatt.cost") return;
    const currency = dimensions["tokenwatt.currency"] ?? "";
    this.currency = this.currency === undefined || this.currency === currency ? currency : null;
    for (const ring of [this.minute, this.hour]) ring.row(WHOLE_HOST)?.add(FIELDS.cost, amount / NANOS);
    const server = dimensions["tokenwatt.server.id"];
    if (server !== undefined) this.minute.row(server)?.add(FIELDS.cost, amount / NANOS);
  }
}

/** The cells of one row; what is added goes into the present one. */
class Row {
  readonly values: Float32Array;
  touched = -1;
  /** Place of the present cell. */
  #at = 0;

  constructor(size: number) {
    this.values = new Float32Array(size);
  }

  /** Makes the cell at a place, whose number is `cell`, the present one. */
  turnTo(at: number, cell: number): void {
    this.#at = at;
    this.touched = cell;
  }

  add(field: number, amount: number): void {
    this.values[this.#at + field] = (this.values[this.#at + field] ?? 0) + amount;
  }
}

/** Rows of equally many cells that all stand for the same times; the oldest cell gives its place to the newest. */
class Ring {
  readonly cellNanos: Nanos;
  readonly cells: number;
  readonly #width: number;
  readonly #rows = new Map<string, Row>();
  #cell = -1;

  constructor(cellNanos: Nanos, cells: number, width: number) {
    this.cellNanos = cellNanos;
    this.cells = cells;
    this.#width = width;
  }

  /** The number of the present cell, counted from the agent's start; -1 before the first interval. */
  get cell(): number {
    return this.#cell;
  }

  /** Makes the cell in which an interval ends the present one; those passed over are empty, idle rows go. */
  reach(to: Nanos): void {
    const cell = Math.max(this.#cell, Math.floor((to - 1) / this.cellNanos), 0);
    const fresh = Math.min(this.cells, cell - this.#cell);
    if (fresh === 0) return;
    this.#cell = cell;
    for (const [key, { touched, values }] of this.#rows) {
      if (cell - touched >= this.cells) this.#rows.delete(key);
      for (let back = 0; back < fresh; back++) {
        const at = this.#at(cell - back);
        values.fill(0, at, at + this.#width);
      }
    }
  }

  /** The row of that name in the present cell; undefined where there are too many rows. */
  row(key: string): Row | undefined {
    let row = this.#rows.get(key);
    if (row === undefined) {
      if (this.#rows.size >= ROWS_MAX) return undefined;
      row = new Row(this.cells * this.#width);
      this.#rows.set(key, row);
    }
    row.turnTo(this.#at(this.#cell), this.#cell);
    return row;
  }

  keys(): readonly string[] {
    return [...this.#rows.keys()];
  }

  /** The fields of one cell of a row, or of all of them together. */
  values(key: string, cell?: number): readonly number[] | undefined {
    const values = this.#rows.get(key)?.values;
    if (values === undefined) return undefined;
    if (cell !== undefined) {
      if (cell < 0 || cell > this.#cell || cell <= this.#cell - this.cells) return undefined;
      return [...values.subarray(this.#at(cell), this.#at(cell) + this.#width)];
    }
    const sums = new Array<number>(this.#width).fill(0);
    for (const [place, value] of values.entries())
      sums[place % this.#width] = (sums[place % this.#width] ?? 0) + value;
    return sums;
  }

  #at(cell: number): number {
    return (cell % this.cells) * this.#width;
  }
}

/** Adds what a GPU did to its own row, or to the host's. */
function addStates(row: Row | undefined, gpu: SettledInterval["gpus"][number]): void {
  if (row === undefined) return;
  for (let place = 0; place < STATES.length; place++) {
    const state = STATES[place] as GpuState;
    row.add(FIELDS.seconds + place, gpu.nanos[state] / NANOS);
    row.add(FIELDS.joules + place, gpu.millijoules[state] / 1000);
  }
  row.add(FIELDS.unattributed, gpu.millijoules.unattributed / 1000);
  if (gpu.activityMethod === "unknown") row.add(FIELDS.unknown, allocated(gpu.nanos) / NANOS);
}

function add(row: Row | undefined, input: number, output: number): void {
  row?.add(FIELDS.input, input);
  row?.add(FIELDS.output, output);
}

function allocated(of: Readonly<Record<AllocatedState, number>>): number {
  return of.parked + of.stalled + of.token_active;
}

function sumsOf(values: readonly number[]): RecentSums {
  const at = (field: number): number => values[field] ?? 0;
  const byState = (from: number): Record<GpuState, number> =>
    Object.fromEntries(STATES.map((state, place) => [state, at(from + place)])) as Record<GpuState, number>;
  return {
    seconds: byState(FIELDS.seconds),
    joules: { ...byState(FIELDS.joules), unattributed: at(FIELDS.unattributed) },
    input: at(FIELDS.input),
    output: at(FIELDS.output),
    cost: at(FIELDS.cost),
    elapsed: at(FIELDS.elapsed),
    unknown: at(FIELDS.unknown),
    held: at(FIELDS.held),
  };
}
