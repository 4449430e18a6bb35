// Whether an interval that was worked out again is the one of the time before.
import type { PollInterval, WorkRun } from "./evidence.ts";

/** Returns whether two intervals between the same polls say the same. */
export function isSameInterval(one: PollInterval, other: PollInterval): boolean {
  return (
    haveSamePolls(one, other) &&
    haveSameProgress(one, other) &&
    one.workNanos === other.workNanos &&
    one.contended === other.contended &&
    one.beside === other.beside &&
    one.besideThin === other.besideThin &&
    areSameRuns(one.all, other.all) &&
    areSameRuns(one.work, other.work) &&
    areSameRuns(one.spared, other.spared)
  );
}

/** What its polls say by themselves. */
function haveSamePolls(one: PollInterval, other: PollInterval): boolean {
  return (
    one.from === other.from &&
    one.to === other.to &&
    one.open === other.open &&
    one.kind === other.kind &&
    one.inFlightFrom === other.inFlightFrom &&
    one.inFlightTo === other.inFlightTo &&
    one.activeNanos === other.activeNanos &&
    one.ended === other.ended &&
    one.requests === other.requests &&
    one.doubt === other.doubt &&
    one.isLent === other.isLent &&
    one.othersNanos === other.othersNanos &&
    one.mayPause === other.mayPause &&
    one.mayBeLate === other.mayBeLate &&
    one.mayBeLonger === other.mayBeLonger &&
    one.mayBeStale === other.mayBeStale &&
    one.isOfCopy === other.isOfCopy &&
    one.isCopied === other.isCopied
  );
}

function haveSameProgress(one: PollInterval, other: PollInterval): boolean {
  return (
    one.progress === other.progress &&
    one.lone === other.lone &&
    one.steps === other.steps &&
    one.ownSteps === other.ownSteps
  );
}

function areSameRuns(one: readonly WorkRun[], other: readonly WorkRun[]): boolean {
  if (one.length !== other.length) return false;
  for (let index = 0; index < one.length; index++) {
    const run = one[index] as WorkRun;
    const same = other[index] as WorkRun;
    if (run.from !== same.from || run.to !== same.to || run.seen !== same.seen) return false;
  }
  return true;
}
