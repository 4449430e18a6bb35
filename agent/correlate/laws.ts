// The conservation laws of METERING.md 4, checked on every settled row; what breaks one is booked as unattributed.
import type { GpuInterval, Nanos, ServerInterval } from "../model.ts";

/** A broken law, by name and with its figures. */
export interface Violation {
  readonly law: "states" | "joules" | "shares" | "sign";
  readonly message: string;
}

/**
 * Returns the laws a row breaks. `wallNanos` is what its states must sum to, within `slackNanos` under MIG; undefined =
 * the board's rows are judged together.
 */
export function broken(row: GpuInterval, wallNanos: Nanos | undefined, slackNanos: Nanos): Violation[] {
  const found: Violation[] = [];
  const nanos = sum(Object.values(row.nanos));
  if (wallNanos !== undefined && !(Math.abs(nanos - wallNanos) <= slackNanos))
    found.push({
      law: "states",
      message: `states of ${row.gpu} sum to ${nanos} ns, wall time is ${wallNanos} ns`,
    });
  // What a metered server holds idle while an unknown process works is shared as well (METERING.md 2).
  for (const [what, held, other, shared] of [
    ["ns", allocated(row.nanos), row.nanos.other, sharedOf(row, "nanos")],
    ["mJ", allocated(row.millijoules), row.millijoules.other, sharedOf(row, "millijoules")],
  ] as const)
    if (shared < held || shared > held + other)
      found.push({
        law: "shares",
        message: `shares of ${row.gpu} sum to ${shared} ${what} of ${held} allocated and ${other} other`,
      });
  for (const field of ["nanos", "millijoules"] as const) {
    const held = row[field].other + allocated(row[field]);
    const named = sum((row.holders ?? []).map((share) => share[field]));
    if (row.holders === undefined || held === named) continue;
    const message = `holders of ${row.gpu} have ${named} of ${held} ${field} it was held for`;
    found.push({ law: "shares", message });
  }
  for (const { millijoules, nanos, phases, server } of row.residents) {
    if (phases === undefined) continue;
    const split = [sum(phases.map((part) => part.nanos)), sum(phases.map((part) => part.millijoules))];
    if (split[0] === nanos.token_active && split[1] === millijoules.token_active) continue;
    const active = `${nanos.token_active} ns and ${millijoules.token_active} mJ`;
    const message = `phases of ${server} on ${row.gpu} have ${split[0]} ns and ${split[1]} mJ of ${active}`;
    found.push({ law: "shares", message });
  }
  const amounts = [
    ...Object.values(row.nanos),
    ...Object.values(row.millijoules),
    row.busyNanos,
    row.rejectedMillijoules,
    ...(row.uncertain ?? []).flatMap(({ nanos, millijoules }) => [nanos, millijoules]),
    ...row.residents.flatMap((share) => [...Object.values(share.nanos), ...Object.values(share.millijoules)]),
    ...(row.holders ?? []).flatMap(({ nanos, millijoules }) => [nanos, millijoules]),
    ...row.residents.flatMap(({ phases }) =>
      (phases ?? []).flatMap((part) => [
        ...[part.nanos, part.millijoules],
        ...[part.uncertainNanos, part.uncertainMillijoules],
      ]),
    ),
  ];
  const doubted = sum((row.uncertain ?? []).map((part) => part.nanos));
  const given = sum(Object.values(row.nanos));
  if (doubted > given)
    found.push({
      law: "states",
      message: `${doubted} ns of ${row.gpu} are uncertain, of ${given} ns in all`,
    });
  const odd = amounts.find((amount) => !Number.isSafeInteger(amount) || amount < 0);
  if (odd !== undefined)
    found.push({ law: "sign", message: `${row.gpu} was given ${odd}, wanted an integer of 0 or more` });
  return found;
}

/** Returns the states law for a server: its own states sum to the time it was known. */
export function brokenServer(row: ServerInterval, wallNanos: Nanos): Violation[] {
  const nanos = Object.values(row.nanos);
  if (sum(nanos) === wallNanos && nanos.every((amount) => Number.isSafeInteger(amount) && amount >= 0))
    return [];
  return [
    { law: "states", message: `states of server ${row.server} sum to ${sum(nanos)} ns of ${wallNanos}` },
  ];
}

/** Returns the states law of a sliced board: instances and remainder together are its wall time. */
export function brokenBoard(uuid: string, rows: readonly GpuInterval[], wallNanos: Nanos): Violation[] {
  const nanos = sum(rows.map((row) => sum(Object.values(row.nanos))));
  if (nanos === wallNanos) return [];
  return [{ law: "states", message: `states on ${uuid} sum to ${nanos} ns, wall time is ${wallNanos} ns` }];
}

/** Returns the joules law for the rows of one board: together they hold what the board used. */
export function brokenJoules(uuid: string, rows: readonly GpuInterval[], millijoules: number): Violation[] {
  const booked = sum(rows.map((row) => sum(Object.values(row.millijoules))));
  if (booked === millijoules) return [];
  const message = `states of ${uuid} sum to ${booked} mJ, its meter moved ${millijoules} mJ`;
  return [{ law: "joules", message }];
}

/** Returns the row with its time unobserved and its energy unattributed. */
export function disowned(
  { holders: _, ...row }: GpuInterval,
  wallNanos: Nanos,
  millijoules: number,
): GpuInterval {
  return {
    ...row,
    nanos: { token_active: 0, stalled: 0, parked: 0, other: 0, free: 0, unobserved: wallNanos },
    millijoules: {
      token_active: 0,
      stalled: 0,
      parked: 0,
      other: 0,
      free: 0,
      unobserved: 0,
      unattributed: millijoules,
    },
    busyNanos: 0,
    residents: [],
    uncertain: [],
  };
}

function sharedOf(row: GpuInterval, field: "nanos" | "millijoules"): number {
  return sum(row.residents.map((share) => sum(Object.values(share[field]))));
}

/** Sum of allocated amounts. */
function allocated(amounts: GpuInterval["nanos"]): number {
  return amounts.token_active + amounts.stalled + amounts.parked;
}

function sum(amounts: readonly number[]): number {
  let total = 0;
  for (const amount of amounts) total += amount;
  return total;
}
