// From cumulative counters to what was counted since the last look: resets, gaps and glitches (METERING.md 7).
// A server older than the agent never has its history counted; a restart never counts a token twice.
// Time is an argument, state goes out and in as plain data; nothing here reads a clock or a disk.
import type {
  Nanos,
  ServerPoll,
  StateRow,
  TokenIncrement,
  TokenReading,
  TokenSample,
  UnixNanos,
} from "../../model.ts";
import { KeyCounters } from "./key-counters.ts";
import { keyRowStates } from "./key-row-text.ts";
import { KeyRows } from "./key-rows.ts";
import type { KeyIdentity, KeyState } from "./key-state.ts";
import type { Course, Target } from "./sample-step.ts";
import { Look } from "./sample-step.ts";

/** How a counter came to its new value, and what that adds to the total. */
export interface CounterStep {
  readonly kind: "first" | "difference" | "reset";
  readonly amount: number;
}

/**
 * What `current` adds after `previous`, for a counter of a device that begins again at a fall: nothing at first sight, the
 * difference while it rises, and the whole new value after a fall.
 */
export function increment(previous: number | undefined, current: number): CounterStep {
  if (previous === undefined) return { kind: "first", amount: 0 };
  if (current < previous) return { kind: "reset", amount: current };
  return { kind: "difference", amount: current - previous };
}

/** What one sample moved. */
export interface Accepted {
  readonly increments: readonly TokenIncrement[];
  /** Absent when the sample is older than one already taken. */
  readonly poll: ServerPoll | undefined;
  readonly resets: number;
  /** Values refused as NaN, negative or absurd, held falls, repeated keys, keys over the bound, outdated samples. */
  readonly dropped: number;
  /** The server restarted while the agent was away: what it did before that was never seen. */
  readonly unmetered: boolean;
}

/** What the increments are told once. */
export interface IncrementsOptions {
  readonly agentStarted: Nanos;
  /** Label sets remembered at most, over all servers; further ones are dropped and counted. */
  readonly keysMax?: number;
}

const keysMaxDefault = 100_000;
const dayNanos = 86_400 * 1e9;
/** Keys of rows that label sets share. */
const SHARED_ROW = /^\["sample",.*,"rows",\d+\]$/;
/**
 * How long a vanished label set is remembered: without an epoch nothing else tells its return from its birth; with one
 * its epoch's begin does, and a gateway may name thousands of passing tenants.
 */
const retentionNanos = { open: 35 * dayNanos, epoch: 2 * dayNanos } as const;

/** What is stored of a server beside its label sets. */
interface StoredLook {
  readonly lastLook: string;
  readonly completeEpoch?: string;
  readonly scale?: string;
  readonly active?: number;
}

/** Last readings of every server. `accept` turns a new one into increments. */
export class Increments {
  readonly #targets = new Map<string, Target>();
  readonly #agentStarted: Nanos;
  readonly #keysMax: number;
  /** Keys of rows that were stored and are remembered no longer. */
  #forgotten: string[] = [];
  #keys = 0;
  #prunedAt: Nanos;

  constructor(options: IncrementsOptions) {
    this.#agentStarted = options.agentStarted;
    this.#keysMax = options.keysMax ?? keysMaxDefault;
    this.#prunedAt = options.agentStarted;
  }

  /** What this sample added since the last one, and the progress the correlator reads. Never throws on bad input. */
  countSample(sample: TokenSample): Accepted {
    const target = this.#target(sample.server);
    if (target.lastLook !== undefined && sample.at < target.lastLook) {
      return { increments: [], poll: undefined, resets: 0, dropped: 1, unmetered: false };
    }
    const since = target.lastLook ?? this.#agentStarted;
    const look = new Look(sample, target, since, this.#agentStarted, courseOf(sample, target));
    target.looks++;
    for (let place = 0; place < sample.readings.length; place++) {
      const reading = sample.readings[place] as TokenReading;
      const known = knownAt(target, place, reading);
      if (known?.look === target.looks || (known === undefined && this.#keys >= this.#keysMax)) {
        look.dropped++;
        continue;
      }
      const counters = known ?? this.#remember(target, reading);
      target.places[place] = counters;
      counters.look = target.looks;
      look.take(reading, counters, known !== undefined);
    }
    target.places.length = sample.readings.length;
    const poll = look.finish();
    this.#prune(sample.at);
    if (sample.countedHere === true) {
      const increments = look.increments.map((one) => (one.resets === 0 ? one : { ...one, resets: 0 }));
      return { increments, poll, resets: 0, dropped: look.dropped, unmetered: false };
    }
    return {
      increments: look.increments,
      poll,
      resets: look.resets,
      dropped: look.dropped,
      unmetered: look.unmetered,
    };
  }

  #remember(target: Target, reading: TokenReading): KeyCounters {
    this.#keys++;
    const counters = new KeyCounters(reading);
    target.keys.set(keyOf(reading), counters);
    countModel(target, counters, 1);
    target.rows.add(counters);
    return counters;
  }

  /** A look at the server failed: a fall of all its counters may now be a restart. */
  interrupt(server: string): void {
    const target = this.#targets.get(server);
    if (target !== undefined) target.interrupted = true;
  }

  /** When a server was last read, or undefined if never. */
  lastLook(server: string): Nanos | undefined {
    return this.#targets.get(server)?.lastLook;
  }

  /** The model a server serves, while it serves exactly one. */
  soleModel(server: string): string | undefined {
    const models = this.#targets.get(server)?.models;
    if (models?.size !== 1) return undefined;
    const [model] = models.keys();
    return model;
  }

  /** Whether a server's pages name this model. */
  serves(server: string, model: string): boolean {
    return this.#targets.get(server)?.models.has(model) === true;
  }

  /** Forgets a server that left the configuration. */
  forget(server: string): void {
    const target = this.#targets.get(server);
    if (target === undefined) return;
    this.#keys -= target.keys.size;
    this.#forgotten.push(sampleKey(server), ...[...target.rows.numbers].map((row) => rowKey(server, row)));
    this.#targets.delete(server);
  }

  /** Rows that changed since the last call (all of them at first), to be committed with the totals they led to. */
  takeChanges(unixNanos: (at: Nanos) => UnixNanos): readonly StateRow[] {
    const rows: StateRow[] = this.#forgotten.map((key) => ({ key, value: "" }));
    this.#forgotten = [];
    const timeText = textsOf(unixNanos);
    for (const [server, target] of this.#targets) {
      if (!target.changed) continue;
      target.changed = false;
      if (target.lastLook !== undefined) {
        const look = {
          lastLook: timeText(target.lastLook),
          completeEpoch: target.completeEpoch,
          scale: target.scale,
          active: target.active,
        };
        rows.push({ key: sampleKey(server), value: JSON.stringify(look) });
      }
      target.rows.takeChanges(timeText, (row, value) => rows.push({ key: rowKey(server, row), value }));
    }
    return rows;
  }

  /** Continues from rows of an earlier run. Rows that cannot be read are left out and counted. */
  restore(rows: readonly StateRow[], instant: (at: UnixNanos) => Nanos): number {
    let unreadable = 0;
    const single = rows.filter(({ key }) => !SHARED_ROW.test(key));
    // What stands by itself beside a row that has it, too, was written later.
    for (const row of [...rows.filter(({ key }) => SHARED_ROW.test(key)), ...single]) {
      try {
        this.#restoreRow(JSON.parse(row.key), row.value, instant);
      } catch {
        unreadable++;
      }
    }
    for (const [server, target] of this.#targets) this.#moveToRows(server, target);
    return unreadable;
  }

  /** Label sets that were stored each by itself, as by versions before, are stored in rows with the next changes. */
  #moveToRows(server: string, target: Target): void {
    for (const [key, counters] of target.keys) {
      if (counters.row >= 0) continue;
      target.rows.add(counters);
      counters.changed = true;
      target.changed = true;
      this.#forgotten.push(sampleKey(server, key));
    }
  }

  #restoreRow(key: unknown, value: string, instant: (at: UnixNanos) => Nanos): void {
    const [kind, server, label, row] = key as [string, string, string?, number?];
    if (kind !== "sample") return;
    if (label === undefined) {
      const look = JSON.parse(value) as StoredLook;
      const target = this.#target(server);
      target.restored = true;
      target.lastLook = instant(BigInt(look.lastLook));
      target.completeEpoch = look.completeEpoch;
      target.scale = look.scale;
      // No look was made while the agent was away.
      target.interrupted = true;
      target.active = look.active;
      return;
    }
    const states = row === undefined ? [JSON.parse(value) as KeyState] : keyRowStates(value);
    const target = this.#target(server);
    target.restored = true;
    target.places.length = 0;
    const all = states.map((state) => KeyCounters.restored(state, instant));
    if (row !== undefined) target.rows.restore(row, all);
    for (const counters of all) {
      const key = keyOf(counters.identity);
      const known = target.keys.get(key);
      if (known === undefined) {
        this.#keys++;
        countModel(target, counters, 1);
      } else if (known.row >= 0) target.rows.remove(known);
      target.keys.set(key, counters);
    }
  }

  #target(server: string): Target {
    const known = this.#targets.get(server);
    if (known !== undefined) return known;
    const target: Target = {
      keys: new Map(),
      models: new Map(),
      rows: new KeyRows(),
      places: [],
      stood: undefined,
      shape: undefined,
      looks: 0,
      lastLook: undefined,
      completeEpoch: undefined,
      scale: undefined,
      interrupted: false,
      active: undefined,
      activeTotal: 0,
      phaseTimes: undefined,
      phaseTotal: { requests: 0, prefillNanos: 0, decodeNanos: 0 },
      inputTokens: 0,
      outputTokens: 0,
      restored: false,
      changed: false,
    };
    this.#targets.set(server, target);
    return target;
  }

  #prune(now: Nanos): void {
    if (now - this.#prunedAt < dayNanos / 24) return;
    this.#prunedAt = now;
    for (const target of this.#targets.values()) {
      for (const [key, counters] of target.keys) {
        const kept = counters.epoch === undefined ? retentionNanos.open : retentionNanos.epoch;
        // Measured from the server's last look: a server that is down has not let its label sets vanish.
        if ((target.lastLook ?? now) - counters.at <= kept) continue;
        target.keys.delete(key);
        countModel(target, counters, -1);
        target.rows.remove(counters);
        target.places.length = 0;
        this.#keys--;
      }
    }
  }
}

/** A label set comes or goes. */
function countModel({ models }: Target, { identity: { model } }: KeyCounters, by: 1 | -1): void {
  if (model === undefined) return;
  const count = (models.get(model) ?? 0) + by;
  if (count === 0) models.delete(model);
  else models.set(model, count);
}

/** Times as text, the last one made once: the label sets of a page were read at one instant. */
function textsOf(unixNanos: (at: Nanos) => UnixNanos): (at: Nanos) => string {
  let last = Number.NaN;
  let text = "";
  return (at) => {
    if (at !== last) text = String(unixNanos(at));
    last = at;
    return text;
  };
}

function sampleKey(...parts: readonly string[]): string {
  return JSON.stringify(["sample", ...parts]);
}

/** The key of a row of label sets: never one of a label set by itself, which is stored under a text of its names. */
function rowKey(server: string, row: number): string {
  return JSON.stringify(["sample", server, "rows", row]);
}

/** The counters of a reading: mostly those that stood at its place in the sample before, else found by its key. */
function knownAt(target: Target, place: number, reading: TokenReading): KeyCounters | undefined {
  const last = target.places[place];
  return last?.isOf(reading) === true ? last : target.keys.get(keyOf(reading));
}

function keyOf(reading: KeyIdentity): string {
  const { model, tenant, endpoint, role } = reading;
  return [role, model ?? "\u0001", tenant ?? "\u0001", endpoint ?? "\u0001"].join("\u0000");
}

/**
 * What the label sets without an epoch say of their server: `fell` where none stands higher and one lower than before,
 * `goes_on` where one goes on. `silent` where none can be compared: a server that began again shows nothing at first.
 */
function courseOf(sample: TokenSample, target: Target): Course {
  if (target.keys.size === 0) return "goes_on";
  let course: Course = "silent";
  for (let place = 0; place < sample.readings.length; place++) {
    const reading = sample.readings[place] as TokenReading;
    if (reading.epoch !== undefined) continue;
    const known = knownAt(target, place, reading);
    if (known === undefined) continue;
    const found = known.compareTokens(reading);
    if (found === "above") return "goes_on";
    if (found === "below") course = "fell";
    else if (found === "same" && course === "silent") course = "goes_on";
  }
  return course;
}
