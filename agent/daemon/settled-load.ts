// What the last ten seconds of settled intervals say of one server's load: the GPUs it holds, how much of that time was
// token-active, its watts and its tokens per joule. What no interval says is absent: 0 would be a measurement. Seconds in
// which nothing was settled (the driver hangs, the agent is behind) make all of it absent.
import type { Recent } from "../meter/figures/recent.ts";
import type { Nanos } from "../model.ts";
import type { SettledLoad } from "../policy/orca-load.ts";

const SECONDS = 10;
/** An interval settles within seconds; newest cells that are older say nothing of now. */
const STALE_NANOS = 15e9;

/** The load of a server as settled lately; undefined where nothing is known of it. */
export function settledLoad(
  recent: Pick<Recent, "minute" | "sums">,
  server: string,
  now: Nanos,
): SettledLoad | undefined {
  const { cell: last, cellNanos } = recent.minute;
  if (last < 0 || now - (last + 1) * cellNanos > STALE_NANOS) return undefined;
  let [held, known, active, joules, tokens, elapsed] = [0, 0, 0, 0, 0, 0];
  for (let cell = Math.max(0, last - SECONDS + 1); cell <= last; cell++) {
    const sums = recent.sums("minute", server, cell);
    // A cell whose GPUs nobody saw has tokens and no joules: the ratio of the rest is what is known.
    if (sums === undefined || sums.held === 0) continue;
    held += sums.held;
    active += sums.seconds.token_active;
    known += sums.seconds.token_active + sums.seconds.stalled + sums.seconds.parked;
    joules += sums.joules.token_active + sums.joules.stalled + sums.joules.parked;
    tokens += sums.input + sums.output;
    elapsed += sums.elapsed;
  }
  if (held === 0 || elapsed === 0) return undefined;
  return {
    gpus: held / elapsed,
    tokenActiveRatio: known > 0 ? active / known : undefined,
    watts: joules > 0 ? joules / elapsed : undefined,
    tokensPerJoule: joules > 0 ? tokens / joules : undefined,
  };
}
