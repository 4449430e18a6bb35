// What the ledger's record is told of the agent's own life: its start, the time nobody metered before it, steps of the
// wall clock.
import { uptime } from "node:os";
import type { Books } from "../meter/books.ts";
import { restorePending } from "../meter/counters/pending.ts";
import type { LedgerRestored } from "../model.ts";
import type { Clock, SystemClock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import { programVersion } from "../platform/version.ts";
import { bookAbsence, lateInterval } from "./continuity.ts";
import type { Pipeline } from "./pipeline.ts";

/** Whose life is told. */
export interface Life {
  readonly books: Books;
  readonly clock: Clock;
  readonly log: Log;
  readonly pipeline: Pipeline;
}

/** Notes the start, and books what an earlier run read but did not book and the time since it ended, unless it was booked. */
export function noteStart(
  life: Life,
  stateDir: string,
  {
    outdated,
    restored,
  }: { readonly outdated?: string | undefined; readonly restored: LedgerRestored | undefined },
): void {
  const { books, clock, pipeline } = life;
  const start = pipeline.settledUntil;
  books.note("start", start, { version: programVersion(), pid: process.pid, stateDir });
  if (restored === undefined || outdated === "behind" || outdated === "copied") return;
  const late = restorePending(restored.state);
  if (late.length > 0) books.post(lateInterval(late, start), pipeline.intake);
  const absence = {
    last: BigInt(restored.time),
    booted: clock.unixNanos(clock.now()) - BigInt(Math.round(uptime() * 1e9)),
    start: clock.unixNanos(start),
  };
  bookAbsence(books, absence, pipeline.intake.gpus, (at) => clock.instant(at));
}

/** Follows a stepped wall clock and puts the step on record; a step back begins every series anew. */
export function watchWall({ books, clock, log, pipeline }: Life): void {
  const step = "adjust" in clock ? (clock as SystemClock).adjust() : undefined;
  if (step === undefined) return;
  const at = pipeline.settledUntil;
  const facts = { seconds: Number(step.nanos) / 1e9, seriesBeginAnew: step.restarted };
  if (step.restarted) books.ledger.startAnew(clock.unixNanos(at));
  books.note("clock_step", at, facts);
  books.ledger.post([{ metric: "tokenwatt.clock_steps", dimensions: {}, amount: 1 }], at);
  log.warn("wall clock stepped", facts);
}
