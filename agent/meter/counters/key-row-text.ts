// The label sets of one row as text: written at every beat where one of them moved, a thousand of them on a busy host, and
// kept until the disk has them. What they have in common is said once, and of their values only those that were ever seen.
import type { Role } from "../../model.ts";
import type { KeyState } from "./key-state.ts";
import type { KnownBounds, PackedLatencies } from "./packed-latencies.ts";
import { packedLatencies, unpackedLatencies } from "./packed-latencies.ts";

/** What a row is that says label sets in this form; one before it was a list of them as they are. */
const FORM = 2;

/** What label sets of one row share that were read in one look. */
type Look = readonly [role: Role, at: string, epoch: string | null, scale: string | null];

/** A label set: the place of its look, a bit for each slot that has a value, those values, and what it is named. */
type Packed = readonly [
  look: number,
  slots: number,
  values: readonly (number | null)[],
  model: string | null,
  tenant: string | null,
  endpoint: string | null,
  histograms?: PackedLatencies,
];

interface Row {
  readonly form: typeof FORM;
  readonly looks: readonly Look[];
  readonly sets: readonly Packed[];
  readonly bounds: readonly (readonly number[])[];
}

/** The counters of a label set as they are to be stored; a value that was never seen is NaN. */
export interface Storable extends Omit<KeyState, "epoch" | "scale" | "values"> {
  readonly epoch: string | undefined;
  readonly scale: string | undefined;
  readonly values: readonly number[];
}

/** The label sets as text. */
export function keyRowText(states: readonly Storable[]): string {
  const looks: Look[] = [];
  const bounds: KnownBounds = new Map();
  const sets = states.map((state) => packed(state, lookOf(state, looks), bounds));
  const row: Row = { form: FORM, looks, sets, bounds: [...bounds.keys()] };
  return JSON.stringify(row);
}

/** The label sets of a text in this form or the one before it. Throws where it is of neither. */
export function keyRowStates(text: string): readonly KeyState[] {
  const row = JSON.parse(text) as Row | readonly KeyState[];
  if (Array.isArray(row)) return row as readonly KeyState[];
  const { bounds, form, looks, sets } = row as Row;
  if (form !== FORM) throw new Error(`label sets in form ${form}, ${FORM} wanted`);
  return sets.map((one) => unpacked(one, looks[one[0]] as Look, bounds));
}

/** The place of the look that a label set was read in, as far as that is told apart. */
function lookOf(state: Storable, looks: Look[]): number {
  const { at, epoch = null, identity, scale = null } = state;
  for (let place = 0; place < looks.length; place++) {
    const look = looks[place] as Look;
    if (look[0] === identity.role && look[1] === at && look[2] === epoch && look[3] === scale) return place;
  }
  return looks.push([identity.role, at, epoch, scale]) - 1;
}

function packed({ histograms, identity, values }: Storable, look: number, bounds: KnownBounds): Packed {
  const { endpoint, model, tenant } = identity;
  // Cut to its length and written over: a thousand of them are made in each beat.
  const seen = values.slice(0, values.reduce(countSeen, 0));
  let [slots, next] = [0, 0];
  for (let slot = 0; slot < values.length; slot++) {
    const value = values[slot] as number;
    if (Number.isNaN(value)) continue;
    slots |= 1 << slot;
    seen[next++] = value;
  }
  const found = packedLatencies(histograms, bounds);
  return found === undefined
    ? [look, slots, seen, model ?? null, tenant ?? null, endpoint ?? null]
    : [look, slots, seen, model ?? null, tenant ?? null, endpoint ?? null, found];
}

function countSeen(count: number, value: number): number {
  return Number.isNaN(value) ? count : count + 1;
}

function unpacked(one: Packed, [role, at, epoch, scale]: Look, bounds: Row["bounds"]): KeyState {
  const [, slots, seen, model, tenant, endpoint, histograms = {}] = one;
  const values: (number | null)[] = [];
  let next = 0;
  for (let slot = 0; slots >>> slot !== 0 && slot < 32; slot++)
    values.push((slots >>> slot) & 1 ? (seen[next++] ?? null) : null);
  return {
    identity: {
      role,
      ...(model === null ? {} : { model }),
      ...(tenant === null ? {} : { tenant }),
      ...(endpoint === null ? {} : { endpoint }),
    },
    ...(epoch === null ? {} : { epoch }),
    ...(scale === null ? {} : { scale }),
    at,
    values,
    histograms: unpackedLatencies(histograms, bounds),
  };
}
