// The conservation laws of METERING.md 4, checked on every settled row; what breaks one is booked as unattributed.
import type { GpuInterval, Nanos, ResidentShare, ServerInterval } from "../model.ts";

type Field = "nanos" | "millijoules";

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
  const nanos = ofStates(row.nanos);
  if (wallNanos !== undefined && !(Math.abs(nanos - wallNanos) <= slackNanos))
    found.push({
      law: "states",
      message: `states of ${row.gpu} sum to ${nanos} ns, wall time is ${wallNanos} ns`,
    });
  brokenShares(found, row, "nanos", "ns");
  brokenShares(found, row, "millijoules", "mJ");
  brokenHolders(found, row, "nanos");
  brokenHolders(found, row, "millijoules");
  for (const resident of row.residents) brokenPhases(found, row, resident);
  let doubted = 0;
  for (const part of row.uncertain ?? []) doubted += part.nanos;
  if (doubted > nanos)
    found.push({
      law: "states",
      message: `${doubted} ns of ${row.gpu} are uncertain, of ${nanos} ns in all`,
    });
  const odd = oddAmount(row);
  if (odd !== undefined)
    found.push({ law: "sign", message: `${row.gpu} was given ${odd}, wanted an integer of 0 or more` });
  return found;
}

/** What a metered server holds idle while an unknown process works is shared as well (METERING.md 2). */
function brokenShares(found: Violation[], row: GpuInterval, field: Field, what: string): void {
  const held = allocated(row[field]);
  const { other } = row[field];
  let shared = 0;
  for (const resident of row.residents) shared += allocated(resident[field]);
  if (shared < held || shared > held + other)
    found.push({
      law: "shares",
      message: `shares of ${row.gpu} sum to ${shared} ${what} of ${held} allocated and ${other} other`,
    });
}

function brokenHolders(found: Violation[], row: GpuInterval, field: Field): void {
  if (row.holders === undefined) return;
  const held = row[field].other + allocated(row[field]);
  let named = 0;
  for (const share of row.holders) named += share[field];
  if (held === named) return;
  const message = `holders of ${row.gpu} have ${named} of ${held} ${field} it was held for`;
  found.push({ law: "shares", message });
}

function brokenPhases(
  found: Violation[],
  row: GpuInterval,
  { millijoules, nanos, phases, server }: ResidentShare,
): void {
  if (phases === undefined) return;
  let time = 0;
  let energy = 0;
  for (const part of phases) {
    time += part.nanos;
    energy += part.millijoules;
  }
  if (time === nanos.token_active && energy === millijoules.token_active) return;
  const active = `${nanos.token_active} ns and ${millijoules.token_active} mJ`;
  const message = `phases of ${server} on ${row.gpu} have ${time} ns and ${energy} mJ of ${active}`;
  found.push({ law: "shares", message });
}

const none: readonly never[] = [];

/** The first amount of a row that is no integer of 0 or more. */
function oddAmount(row: GpuInterval): number | undefined {
  const { busyNanos, holders = none, millijoules, nanos, rejectedMillijoules, residents } = row;
  const { uncertain = none } = row;
  let odd = oddState(nanos) ?? oddState(millijoules) ?? oddOf(busyNanos) ?? oddOf(rejectedMillijoules);
  for (const part of uncertain) odd ??= oddOf(part.nanos) ?? oddOf(part.millijoules);
  for (const share of residents) odd ??= oddAllocated(share.nanos) ?? oddAllocated(share.millijoules);
  for (const share of holders) odd ??= oddOf(share.nanos) ?? oddOf(share.millijoules);
  for (const { phases = none } of residents)
    for (const part of phases) {
      odd ??= oddOf(part.nanos) ?? oddOf(part.millijoules);
      odd ??= oddOf(part.uncertainNanos) ?? oddOf(part.uncertainMillijoules);
    }
  return odd;
}

function oddState(of: GpuInterval["nanos"] & { readonly unattributed?: number }): number | undefined {
  const { free, other, unattributed = 0, unobserved } = of;
  return oddAllocated(of) ?? oddOf(other) ?? oddOf(free) ?? oddOf(unobserved) ?? oddOf(unattributed);
}

function oddAllocated({ parked, stalled, token_active }: ResidentShare["nanos"]): number | undefined {
  return oddOf(token_active) ?? oddOf(stalled) ?? oddOf(parked);
}

function oddOf(amount: number): number | undefined {
  return Number.isSafeInteger(amount) && amount >= 0 ? undefined : amount;
}

/** Returns the states law for a server: its own states sum to the time it was known. */
export function brokenServer({ nanos, server }: ServerInterval, wallNanos: Nanos): Violation[] {
  const { parked, stalled, token_active, unknown } = nanos;
  const sum = token_active + stalled + parked + unknown;
  if (sum === wallNanos && (oddAllocated(nanos) ?? oddOf(unknown)) === undefined) return [];
  return [{ law: "states", message: `states of server ${server} sum to ${sum} ns of ${wallNanos}` }];
}

/** Returns the states law of a sliced board: instances and remainder together are its wall time. */
export function brokenBoard(uuid: string, rows: readonly GpuInterval[], wallNanos: Nanos): Violation[] {
  let nanos = 0;
  for (const row of rows) nanos += ofStates(row.nanos);
  if (nanos === wallNanos) return [];
  return [{ law: "states", message: `states on ${uuid} sum to ${nanos} ns, wall time is ${wallNanos} ns` }];
}

/** Returns the joules law for the rows of one board: together they hold what the board used. */
export function brokenJoules(uuid: string, rows: readonly GpuInterval[], millijoules: number): Violation[] {
  let booked = 0;
  for (const row of rows) booked += ofStates(row.millijoules) + row.millijoules.unattributed;
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

function ofStates(amounts: GpuInterval["nanos"]): number {
  return allocated(amounts) + amounts.other + amounts.free + amounts.unobserved;
}

/** Sum of allocated amounts. */
function allocated(amounts: ResidentShare["nanos"]): number {
  return amounts.token_active + amounts.stalled + amounts.parked;
}
