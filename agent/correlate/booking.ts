// What one GPU got in one interval while it is being added up, and the finished row it becomes.
import type {
  ActivityMethod,
  AllocatedState,
  AttributionMethod,
  EnergyMethod,
  GpuInterval,
  GpuState,
  HolderShare,
  PhaseShare,
  ResidentShare,
  Uncertain,
  UncertainReason,
} from "../model.ts";

type States = Record<GpuState, number>;
/** A row that is being added up. */
type Amounts<Row> = { -readonly [Key in keyof Row]: Row[Key] };

interface ShareBooking {
  readonly nanos: Record<AllocatedState, number>;
  readonly millijoules: Record<AllocatedState, number>;
  readonly phases: Amounts<PhaseShare>[];
}

/** Totals of one GPU in one interval, being added up. */
export interface Booking {
  readonly nanos: States;
  readonly millijoules: States & { unattributed: number };
  readonly residents: Map<string, ShareBooking>;
  readonly uncertain: Amounts<Uncertain>[];
  readonly holders: Map<string, Amounts<HolderShare>>;
  busyNanos: number;
  rejectedMillijoules: number;
}

/** States in which a metered server holds the GPU. */
export function isAllocated(state: GpuState): state is AllocatedState {
  return state === "token_active" || state === "stalled" || state === "parked";
}

/** Returns a booking with nothing in it. */
export function emptyBooking(): Booking {
  return {
    nanos: noStates(),
    millijoules: {
      token_active: 0,
      stalled: 0,
      parked: 0,
      other: 0,
      free: 0,
      unobserved: 0,
      unattributed: 0,
    },
    residents: new Map(),
    uncertain: [],
    holders: new Map(),
    busyNanos: 0,
    rejectedMillijoules: 0,
  };
}

/** The holders of a booking as a row lists them. */
function holderShares({ holders }: Booking): readonly HolderShare[] {
  if (holders.size === 1) {
    for (const share of holders.values()) return isHeld(share) ? [share] : [];
  }
  return [...holders]
    .filter(([, share]) => isHeld(share))
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([, share]) => share);
}

function isHeld({ millijoules, nanos }: HolderShare): boolean {
  return nanos > 0 || millijoules > 0;
}

/** Returns the row of one resident, created at first use. */
export function shareOf(booking: Booking, server: string): ShareBooking {
  let share = booking.residents.get(server);
  if (share === undefined) {
    share = {
      nanos: { token_active: 0, stalled: 0, parked: 0 },
      millijoules: { token_active: 0, stalled: 0, parked: 0 },
      phases: [],
    };
    booking.residents.set(server, share);
  }
  return share;
}

/** Notes which phases a server's token-active part consisted of. */
export function notePhases(booking: Booking, server: string, shares: readonly PhaseShare[]): void {
  const { phases } = shareOf(booking, server);
  for (const share of shares) {
    const known = phases.find(({ method, phase }) => phase === share.phase && method === share.method);
    if (known === undefined) {
      phases.push({ ...share });
      continue;
    }
    known.nanos += share.nanos;
    known.millijoules += share.millijoules;
    known.uncertainNanos += share.uncertainNanos;
    known.uncertainMillijoules += share.uncertainMillijoules;
  }
}

/** Notes that part of what is booked rests on an assumption, about a server's activity or about the GPU. */
export function noteUncertain(
  { uncertain }: Booking,
  reason: UncertainReason,
  server: string | undefined,
  nanos: number,
  millijoules: number,
): void {
  if (nanos <= 0 && millijoules <= 0) return;
  for (const known of uncertain) {
    if (known.reason !== reason || known.server !== server) continue;
    known.nanos += nanos;
    known.millijoules += millijoules;
    return;
  }
  uncertain.push(
    server === undefined ? { reason, nanos, millijoules } : { server, reason, nanos, millijoules },
  );
}

/** Energy of a booking that rests on assumptions. */
export function uncertainMillijoules({ uncertain }: Booking): number {
  let sum = 0;
  for (const { millijoules } of uncertain) sum += millijoules;
  return sum;
}

/** How the numbers of a booking came about. */
export interface Methods {
  readonly activity: ActivityMethod;
  readonly energy: EnergyMethod;
  readonly attribution: AttributionMethod;
  readonly time: AttributionMethod;
}

/** Returns the finished row. */
export function finished(gpu: string, booking: Booking, methods: Methods): GpuInterval {
  const residents: ResidentShare[] = [];
  const { attribution: method, time: timeMethod } = methods;
  for (const [server, { nanos, millijoules, phases }] of booking.residents)
    residents.push(
      phases.length === 0
        ? { server, nanos, millijoules, method, timeMethod }
        : { server, nanos, millijoules, phases, method, timeMethod },
    );
  if (!areSorted(residents)) residents.sort((left, right) => (left.server < right.server ? -1 : 1));
  const row: Amounts<GpuInterval> = {
    gpu,
    nanos: booking.nanos,
    millijoules: booking.millijoules,
    busyNanos: booking.busyNanos,
    activityMethod: methods.activity,
    energyMethod: methods.energy,
    rejectedMillijoules: booking.rejectedMillijoules,
    residents,
  };
  if (booking.holders.size > 0) row.holders = holderShares(booking);
  if (booking.uncertain.length > 0) row.uncertain = booking.uncertain;
  return row;
}

function areSorted(residents: readonly ResidentShare[]): boolean {
  for (let index = 1; index < residents.length; index++)
    if ((residents[index - 1] as ResidentShare).server >= (residents[index] as ResidentShare).server)
      return false;
  return true;
}

function noStates(): States {
  return { token_active: 0, stalled: 0, parked: 0, other: 0, free: 0, unobserved: 0 };
}
