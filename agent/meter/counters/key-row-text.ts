// The label sets of one row as text: written at every beat where one of them moved, a thousand of them on a busy host, and
// kept until the disk has them. What they have in common is said once, and of their values only those that were ever seen.
import type { Histogram, Latencies, LatencyKey, Role } from "../../model.ts";
import type { KeyState } from "./key-state.ts";

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
  histograms?: Partial<Record<LatencyKey, readonly [bounds: number, Omit<Histogram, "bounds">]>>,
];

interface Row {
  readonly form: typeof FORM;
  readonly looks: readonly Look[];
  readonly sets: readonly Packed[];
  readonly bounds: readonly (readonly number[])[];
}

/** The label sets as text; a value that was never seen is NaN or null. */
export function keyRowText(states: readonly KeyState[]): string {
  const looks: Look[] = [];
  const bounds: (readonly number[])[] = [];
  const sets = states.map((state) => packed(state, lookOf(state, looks), bounds));
  const row: Row = { form: FORM, looks, sets, bounds };
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
function lookOf(state: KeyState, looks: Look[]): number {
  const { at, identity } = state;
  const [role, epoch, scale] = [identity.role, state.epoch ?? null, state.scale ?? null];
  const known = looks.findIndex(
    (look) => look[0] === role && look[1] === at && look[2] === epoch && look[3] === scale,
  );
  return known === -1 ? looks.push([role, at, epoch, scale]) - 1 : known;
}

function packed(
  { histograms, identity, values }: KeyState,
  look: number,
  bounds: (readonly number[])[],
): Packed {
  const { endpoint, model, tenant } = identity;
  const seen: number[] = [];
  let slots = 0;
  for (let slot = 0; slot < values.length; slot++) {
    const value = values[slot] ?? Number.NaN;
    if (Number.isNaN(value)) continue;
    slots |= 1 << slot;
    seen.push(value);
  }
  const named = [look, slots, seen, model ?? null, tenant ?? null, endpoint ?? null] as const;
  const keys = Object.keys(histograms) as LatencyKey[];
  return keys.length === 0 ? named : [...named, packedHistograms(histograms, keys, bounds)];
}

function packedHistograms(
  histograms: Latencies,
  keys: readonly LatencyKey[],
  known: (readonly number[])[],
): NonNullable<Packed[6]> {
  const found: Partial<Record<LatencyKey, readonly [number, Omit<Histogram, "bounds">]>> = {};
  for (const key of keys) {
    const histogram = histograms[key];
    if (histogram === undefined) continue;
    const { bounds, ...rest } = histogram;
    const place = known.indexOf(bounds);
    found[key] = [place === -1 ? known.push(bounds) - 1 : place, rest];
  }
  return found;
}

function unpacked(one: Packed, [role, at, epoch, scale]: Look, bounds: Row["bounds"]): KeyState {
  const [, slots, seen, model, tenant, endpoint, histograms = {}] = one;
  const values: (number | null)[] = [];
  let next = 0;
  for (let slot = 0; slots >>> slot !== 0 && slot < 32; slot++)
    values.push((slots >>> slot) & 1 ? (seen[next++] ?? null) : null);
  const found = Object.entries(histograms).map(([key, [place, rest]]) => [
    key,
    { ...rest, bounds: bounds[place] ?? [] },
  ]);
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
    histograms: Object.fromEntries(found) as Latencies,
  };
}
