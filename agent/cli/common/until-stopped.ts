// Waits until an agent is to end: its time is over, the process is asked to stop, or only a restart helps.
// Ctrl-C reaches the process twice within a millisecond under npm (terminal and npm), so only a signal more than a
// second after the first means "at once".

import type { Agent } from "../../daemon/agent.ts";
import type { Clock } from "../../platform/clock.ts";
import type { SourceError } from "../../source.ts";

const FORCE_AFTER_NANOS = 1e9;

/** Why the wait ended. */
export type StopCause =
  | { readonly why: "time" }
  | { readonly why: "signal"; readonly signal: NodeJS.Signals }
  | { readonly why: "restart"; readonly error: SourceError };

/** Resolves with the first cause. A second signal, a second later, calls `force`. */
export function untilStopped(
  clock: Clock,
  until: number | undefined,
  agent: Agent,
  force: () => void = () => {},
): Promise<StopCause> {
  return new Promise((resolve) => {
    let firstSignal: number | undefined;
    const onSignal = (signal: NodeJS.Signals): void => {
      const now = clock.now();
      if (firstSignal !== undefined && now - firstSignal > FORCE_AFTER_NANOS) force();
      firstSignal ??= now;
      resolve({ why: "signal", signal });
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
    if (until !== undefined) clock.at(until, () => resolve({ why: "time" }));
    void agent.restartNeeded.then((error) => resolve({ why: "restart", error }));
  });
}
