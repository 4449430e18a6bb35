// A bar on a terminal for work that takes over two seconds, and nothing anywhere else: a pipe, a file or a journal never sees
// one. It goes to stderr, in place, and is wiped away when the work is done.
import type { Clock } from "../../platform/clock.ts";
import type { Environment, Output } from "./io.ts";

/** Where a bar may be drawn, and by which clock. */
export interface ProgressPlace {
  readonly stderr: Output;
  readonly env: Environment;
  readonly clock: Pick<Clock, "now">;
}

/** Follows one piece of work. */
export interface Progress {
  /** How far it is, 0 to 1, and what is done now. */
  at(share: number, what: string): void;
  /** Takes the bar away. */
  end(): void;
}

const SILENT_NANOS = 2e9;
const EVERY_NANOS = 100e6;
const CELLS = 30;
const WIPE = "\r\x1b[K";

/** A bar for the work that begins now. */
export function startProgress({ clock, env, stderr }: ProgressPlace): Progress {
  if (stderr.isTTY !== true || env["TERM"] === "dumb") return { at: () => {}, end: () => {} };
  const began = clock.now();
  let next = began + SILENT_NANOS;
  let isShown = false;
  return {
    at: (share, what) => {
      const now = clock.now();
      if (now < next) return;
      next = now + EVERY_NANOS;
      isShown = true;
      const done = Math.max(0, Math.min(1, share));
      const full = Math.round(done * CELLS);
      const seconds = Math.round((now - began) / 1e9);
      const text = `[${"#".repeat(full)}${"-".repeat(CELLS - full)}] ${String(Math.floor(100 * done)).padStart(3)} % ${seconds} s  ${what}`;
      stderr.write(`${WIPE}${text.slice(0, (stderr.columns ?? 80) - 1)}`);
    },
    end: () => {
      if (isShown) stderr.write(WIPE);
      isShown = false;
    },
  };
}
