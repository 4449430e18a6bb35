// What a way to measure the host's power is, for the meters and for the one that opens them.

/** Which meter a reading came from; it says what its boundary is. */
export type HostPowerMethod = "ipmi" | "meter" | "rapl";

/** One way to measure; `joules` where it counts energy itself, else only `watts`. */
export interface Meter {
  readonly method: HostPowerMethod;
  /** Cumulative joules of its own, wraps already taken out, or watts now; throws when it cannot be read. */
  read(): Promise<{ readonly watts?: number; readonly joules?: number }>;
}

/** A meter of this host, or why it has none of that kind. */
export type MeterFound = Meter | { readonly missing: string };
