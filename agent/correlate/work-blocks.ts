// The stretches of which work and joules are compared where energy is read seldom (energy/window-fit.ts): whole windows. Joules
// that were placed inside a window by who executed would only say that again.
import type { Nanos } from "../model.ts";
import type { WindowFit } from "./energy/window-fit.ts";
import type { Work } from "./energy/work-columns.ts";
import { runningBetween, workIn } from "./energy/work-fit.ts";
import type { Piece } from "./pieces.ts";
import type { TokenStep } from "./token-step.ts";

/** Whose work is compared, in an interval. */
interface Workers {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly servers: ReadonlySet<string>;
  readonly steps: (server: string) => readonly TokenStep[];
}

/** What is known of the energy of their GPU. */
interface Drawn {
  /** Energy before an instant, mJ. */
  readonly before: (at: Nanos) => number;
  /** Up to where it is known up to an instant, no window cut in two. */
  readonly toldUntil: (to: Nanos) => Nanos;
  /** True where a window hides who drew its joules. */
  readonly isCoarse: (from: Nanos, to: Nanos) => boolean;
  readonly floorWatts: number;
}

interface Block {
  readonly from: Nanos;
  /** Energy before it, mJ. */
  readonly before: number;
  /** For how long each server had the GPU, s. */
  readonly turns: Map<string, number>;
}

/** The block of one GPU that is being summed up. Intervals go in by rising time; after a hole it begins anew. */
export class WorkBlocks {
  #block: Block | undefined;
  #reached: Nanos | undefined;

  /** Takes an interval in, and hands a block that is over to the fit. */
  learn(fit: WindowFit, pieces: readonly Piece[], { from, servers, steps, to }: Workers, drawn: Drawn): void {
    const known = this.#reached === from ? this.#block : undefined;
    const block = known ?? { from, before: drawn.before(from), turns: new Map() };
    this.#block = block;
    this.#reached = to;
    for (const piece of pieces) noteTurns(block.turns, piece);
    const until = drawn.toldUntil(to);
    if (until <= block.from) return;
    const before = drawn.before(until);
    this.#block = { from: until, before, turns: new Map() };
    if (!drawn.isCoarse(block.from, until)) return;
    const work = workOf(servers, steps, block.from, until, runningBetween);
    if (work === undefined) return;
    const seconds = (until - block.from) / 1e9;
    const joules = (before - block.before) / 1000 - drawn.floorWatts * seconds;
    fit.observe({ work, turns: block.turns, seconds, joules });
  }
}

/** Adds for how long each that works had the GPU. */
function noteTurns(turns: Map<string, number>, piece: Piece): void {
  const working = workersIn(piece);
  const seconds = (piece.to - piece.from) / 1e9 / working.length;
  for (const server of working) turns.set(server, (turns.get(server) ?? 0) + seconds);
}

/** Returns who works in a piece. */
export function workersIn({ residents }: Piece): string[] {
  const working: string[] = [];
  for (const { server, state } of residents) if (state !== "parked") working.push(server);
  return working;
}

/** Returns the work of each of the servers in a stretch; undefined where that of one is not known. */
export function workOf(
  servers: ReadonlySet<string>,
  steps: (server: string) => readonly TokenStep[],
  from: Nanos,
  to: Nanos,
  running?: (step: TokenStep) => number,
): ReadonlyMap<string, Work> | undefined {
  const all = new Map<string, Work>();
  for (const server of servers) {
    const work = workIn(steps(server), from, to, running);
    if (work === undefined) return undefined;
    all.set(server, work);
  }
  return all;
}
