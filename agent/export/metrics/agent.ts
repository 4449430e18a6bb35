// Metrics of what the agent could not see or had to correct: gaps, resets, steps, drops, refused energy, broken laws.
import type { Metric } from "./metric.ts";
import { count, joules, seconds } from "./rows.ts";

const SOURCE = "tokenwatt.source";
const REASON = "tokenwatt.reason";

/** Rows of the agent side of METERING.md 5. */
export const agentMetrics: readonly Metric[] = [
  seconds("tokenwatt.gap_time", [SOURCE, REASON], "Seconds a source could not be read"),
  count("tokenwatt.counter_resets", "{reset}", [SOURCE], "Counters that restarted at their source"),
  count("tokenwatt.clock_steps", "{step}", [], "Steps of the wall clock"),
  count(
    "tokenwatt.late_samples",
    "{sample}",
    [SOURCE],
    "Samples that came after their interval had settled; their tokens are booked in the open one",
  ),
  count(
    "tokenwatt.dropped",
    "{sample}",
    [SOURCE, REASON],
    "Samples read from outside and refused: not a number, negative, absurd, over a bound",
  ),
  joules(
    "tokenwatt.rejected_energy",
    ["hw.id", "hw.model", "hw.parent", REASON],
    "Movement of the energy counter refused as physically impossible",
  ),
  count(
    "tokenwatt.catalog_misses",
    "{miss}",
    ["hw.model", REASON],
    "Look-ups of a price, power or capacity the catalogue does not hold",
  ),
  count(
    "tokenwatt.series.folded",
    "{point}",
    [REASON],
    "Points whose attribute value was folded into other because a cap was reached",
  ),
  count(
    "tokenwatt.invariant_violations",
    "{violation}",
    ["tokenwatt.law"],
    "Intervals that broke a conservation law and were booked as unattributed",
  ),
];
