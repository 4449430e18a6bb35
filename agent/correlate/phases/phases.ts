// Prefill and decode apart inside one engine: which part of its token-active time and energy on a GPU was which
// (METERING.md 6). Where one kind of token moved between two polls, the time was of that kind. Where both did, each prompt
// token stands for what it costs, learned from the server's own intervals (phase-fit.ts). The rest is `unsplit`.
import type { Nanos, Phase, PhaseMethod, PhaseShare } from "../../model.ts";
import type { Remainders } from "../apportion.ts";
import { apportion, Claims } from "../apportion.ts";
import type { TokenStep } from "../token-step.ts";
import { decodedIn, PhaseFit } from "./phase-fit.ts";

/** A stretch in which a server was token-active on a GPU, and what it got of it. */
export interface ActiveStretch {
  readonly from: Nanos;
  readonly to: Nanos;
  readonly nanos: number;
  /** What holding the GPU cost, and what its work cost. */
  readonly floorMillijoules: number;
  readonly activeMillijoules: number;
  /** Several servers may have worked in it. */
  readonly isShared: boolean;
  /** The GPU was read too seldom to show when work began and ended. */
  readonly isCoarse?: boolean;
  /** Its energy is an apportioned part of a board's. */
  readonly isApportioned?: boolean;
  /** Other GPUs of the server do its prompts. */
  readonly isPrefilledElsewhere?: boolean;
}

/** How one step of a server divides: shares of prefill, and how far off they may be. */
interface Division {
  readonly method: PhaseMethod;
  readonly time: number;
  readonly energy: number;
  readonly timeError: number;
  readonly energyError: number;
}

/** What one phase has of a stretch, by one method: shares of the time and of the energy of its work. */
interface Draft {
  readonly phase: Phase;
  readonly method: PhaseMethod;
  time: number;
  energy: number;
}

interface Open {
  nanos: number;
  millijoules: number;
  isShared: boolean;
}

const unknown: Division = { method: "unknown", time: 0, energy: 0, timeError: 0, energyError: 0 };
const allDecode: Division = { method: "counted", time: 0, energy: 0, timeError: 0, energyError: 0 };
const allPrefill: Division = { method: "counted", time: 1, energy: 1, timeError: 0, energyError: 0 };

/** A fit whose times and energies were not read of this server alone, step by step, is this much less sure. */
const [sharedFactor, roughFactor] = [2, 3];
/** The watts of a prompt over those of a decode step, where only both together are known: off by this much. */
const wattsError = 0.6;
/** And by this much where readings are too far apart to say which watts were whose. */
const coarseWattsError = 1.2;

/** The division with what the fit cannot know of its own errors. */
function widened(division: Division, step: TokenStep, stretch: ActiveStretch): Division {
  const { energy, method, time } = division;
  if (method !== "fitted") return division;
  const { isApportioned = false, isCoarse = false, isShared } = stretch;
  const factor = isCoarse || step.isDoubted ? roughFactor : isShared ? sharedFactor : 1;
  const timeError = Math.min(1, factor * division.timeError);
  if (!isShared && !isCoarse && !isApportioned && !step.isDoubted) return { ...division, timeError };
  const watts =
    (isCoarse ? coarseWattsError : wattsError) * Math.max(energy * (1 - energy), time * (1 - time));
  return {
    ...division,
    timeError,
    energyError: Math.min(1, Math.hypot(factor * division.energyError, watts)),
  };
}

/** The phases of one server on one GPU. Stretches go in by rising time. */
export class Phases {
  readonly #fit = new PhaseFit();
  /** Activity inside steps that are not over yet, by the end of the step. */
  readonly #open = new Map<Nanos, Open>();
  /** How long nothing was done on the GPU inside steps in which tokens moved, and how long of it others of the server worked. */
  readonly #rested = new Map<Nanos, { nanos: Nanos; elsewhereNanos: Nanos }>();
  readonly #nanosOwed: Remainders = new Map();
  readonly #floorOwed: Remainders = new Map();
  readonly #activeOwed: Remainders = new Map();

  /** Returns what of a stretch was prefill and decode; sums to it exactly. `energyBefore` = energy curve of the GPU. */
  divide(
    stretch: ActiveStretch,
    steps: readonly TokenStep[],
    energyBefore: (at: Nanos) => number,
  ): readonly PhaseShare[] {
    const parts: Draft[] = [];
    let covered = 0;
    const length = stretch.to - stretch.from;
    const whole = energyBefore(stretch.to) - energyBefore(stretch.from);
    let doubtTime = 0;
    let doubtEnergy = 0;
    let energyCovered = 0;
    for (let index = firstAfter(steps, stretch.from); index < steps.length; index++) {
      const step = steps[index] as TokenStep;
      const from = Math.max(step.from, stretch.from);
      const to = Math.min(step.to, stretch.to);
      if (to <= from) break;
      const time = (to - from) / length;
      const energy = whole > 0 ? (energyBefore(to) - energyBefore(from)) / whole : time;
      covered += time;
      energyCovered += energy;
      const division = widened(this.#division(steps, index, stretch), step, stretch);
      this.#note(step, to - from, energy * stretch.activeMillijoules, stretch.isShared);
      if (division.method === "unknown") {
        add(parts, "unsplit", "unknown", time, energy);
        continue;
      }
      const doubt = division.timeError + division.energyError;
      add(parts, "prefill", division.method, time * division.time, energy * division.energy, doubt);
      add(parts, "decode", division.method, time * (1 - division.time), energy * (1 - division.energy));
      doubtTime += time * division.timeError;
      doubtEnergy += energy * division.energyError;
    }
    if (covered < 1 - 1e-9) add(parts, "unsplit", "unknown", 1 - covered, Math.max(0, 1 - energyCovered));
    return this.#shares(stretch, parts, doubtTime, doubtEnergy);
  }

  /** Notes that the server did nothing on this GPU in `[from, to)`, and for how long of it it executed on others. */
  rest(from: Nanos, to: Nanos, elsewhereNanos: Nanos, steps: readonly TokenStep[]): void {
    for (let index = firstAfter(steps, from); index < steps.length; index++) {
      const step = steps[index] as TokenStep;
      if (step.from >= to) break;
      if (step.inputTokens <= 0 && step.outputTokens <= 0) continue;
      const inside = Math.min(step.to, to) - Math.max(step.from, from);
      const rest = this.#rested.get(step.to) ?? { nanos: 0, elsewhereNanos: 0 };
      rest.nanos += inside;
      rest.elsewhereNanos += (elsewhereNanos * inside) / (to - from);
      this.#rested.set(step.to, rest);
    }
  }

  /** Whether the server does prompts alone here. */
  get isPromptsOnly(): boolean {
    return this.#fit.promptsOnly() !== undefined;
  }

  /** Learns from the steps that ended at or before `until`. */
  learn(steps: readonly TokenStep[], until: Nanos): void {
    for (const [at, open] of this.#open) {
      if (at > until) continue;
      this.#open.delete(at);
      const step = learnable(steps, at);
      if (step !== undefined) this.#fit.observe(step, open.nanos, open.millijoules, open.isShared);
    }
    for (const [at, { elsewhereNanos, nanos }] of this.#rested) {
      if (at > until) continue;
      this.#rested.delete(at);
      const step = learnable(steps, at);
      if (step !== undefined) this.#fit.observeRest(step, nanos >= step.to - step.from, elsewhereNanos / 1e9);
    }
  }

  #note(step: TokenStep, nanos: number, millijoules: number, isShared: boolean): void {
    const open = this.#open.get(step.to);
    if (open === undefined) {
      this.#open.set(step.to, { nanos, millijoules, isShared });
      return;
    }
    open.nanos += nanos;
    open.millijoules += millijoules;
    open.isShared ||= isShared;
  }

  #division(
    steps: readonly TokenStep[],
    index: number,
    { from, isPrefilledElsewhere = false, isShared, nanos, to }: ActiveStretch,
  ): Division {
    const step = steps[index] as TokenStep;
    if (step.progress !== "step") return unknown;
    const { inputTokens, isDoubted } = step;
    // Beside others, or by the page of another instant, time without a token may be misplaced.
    const isPlaced = !isDoubted && !(isShared && inputTokens <= 0);
    if (step.outputTokens <= 0) return isPlaced ? allPrefill : unknown;
    const only = this.#fit.promptsOnly();
    if (only !== undefined) return { method: "fitted", ...only };
    if (isPrefilledElsewhere) return inputTokens > 0 ? this.#decodeOnly(step) : allDecode;
    if (inputTokens <= 0) {
      const under = isPlaced
        ? this.#fit.underWay(step, ((step.to - step.from) * nanos) / (to - from))
        : undefined;
      return under === undefined ? allDecode : { method: "fitted", ...under };
    }
    if (decodedIn(step) <= 0) return allPrefill;
    const found = this.#fit.shares(step, this.#aheadOf(steps, index));
    return found === undefined ? unknown : { method: "fitted", ...found };
  }

  /** Decode alone, for other GPUs of the server do the prompts; what would be theirs here is in doubt by half. */
  #decodeOnly(step: TokenStep): Division {
    const found = this.#fit.shares(step, 0);
    const [timeError, energyError] = [(found?.time ?? 0) / 2, (found?.energy ?? 0) / 2];
    return { method: "fitted", time: 0, energy: 0, timeError, energyError };
  }

  /** Activity without a token in the steps right before one, as far as it was not learned from yet. */
  #aheadOf(steps: readonly TokenStep[], index: number): Nanos {
    let nanos = 0;
    for (let before = index - 1; before >= 0; before--) {
      const { inputTokens, isLent, outputTokens, to } = steps[before] as TokenStep;
      if (isLent || inputTokens > 0 || outputTokens > 0) break;
      const open = this.#open.get(to);
      if (open === undefined) break;
      if (!open.isShared) nanos += open.nanos;
    }
    return nanos;
  }

  #shares(
    stretch: ActiveStretch,
    parts: readonly Draft[],
    doubtTime: number,
    doubtEnergy: number,
  ): readonly PhaseShare[] {
    const only = parts[0];
    if (only !== undefined && parts.length === 1) {
      const { method, phase } = only;
      const millijoules = stretch.floorMillijoules + stretch.activeMillijoules;
      return [
        { phase, method, nanos: stretch.nanos, millijoules, uncertainNanos: 0, uncertainMillijoules: 0 },
      ];
    }
    const byTime = new Claims();
    const byEnergy = new Claims();
    for (const part of parts) {
      byTime.add(keyOf(part), part.time);
      byEnergy.add(keyOf(part), part.energy);
    }
    const nanos = apportion(stretch.nanos, byTime, this.#nanosOwed);
    const floor = apportion(stretch.floorMillijoules, byTime, this.#floorOwed);
    const active = apportion(stretch.activeMillijoules, byEnergy, this.#activeOwed);
    return parts.map(({ phase, method }, index) => ({
      phase,
      method,
      nanos: nanos[index] as number,
      millijoules: (floor[index] as number) + (active[index] as number),
      uncertainNanos: method === "fitted" && phase === "prefill" ? Math.round(doubtTime * stretch.nanos) : 0,
      uncertainMillijoules:
        method === "fitted" && phase === "prefill"
          ? Math.round(doubtTime * stretch.floorMillijoules + doubtEnergy * stretch.activeMillijoules)
          : 0,
    }));
  }
}

/** The step that ends at an instant, where it shows what its tokens cost on this GPU. */
function learnable(steps: readonly TokenStep[], at: Nanos): TokenStep | undefined {
  const step = stepTo(steps, at);
  return step?.progress === "step" && !step.isLent ? step : undefined;
}

/** The step that ends at an instant. */
function stepTo(steps: readonly TokenStep[], at: Nanos): TokenStep | undefined {
  let index = steps.length - 1;
  while (index >= 0 && (steps[index] as TokenStep).to > at) index--;
  return steps[index]?.to === at ? steps[index] : undefined;
}

/** Adds to what a phase has; a part of nothing is there while it says how far off that may be. */
function add(
  parts: Draft[],
  phase: Phase,
  method: PhaseMethod,
  time: number,
  energy: number,
  doubt = 0,
): void {
  if (time <= 0 && energy <= 0 && doubt <= 0) return;
  for (const known of parts) {
    if (known.phase !== phase || known.method !== method) continue;
    known.time += time;
    known.energy += energy;
    return;
  }
  parts.push({ phase, method, time, energy });
}

function keyOf({ method, phase }: Draft): string {
  return `${phase} ${method}`;
}

/** Place of the first step that ends after an instant. */
function firstAfter(steps: readonly TokenStep[], at: Nanos): number {
  let index = steps.length;
  while (index > 0 && (steps[index - 1] as TokenStep).to > at) index--;
  return index;
}
