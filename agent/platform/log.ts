// The one door to pino: one JSON line per event, `event` a fixed sentence, facts as fields.
// Repeats of one cause are limited to one line per 10 s; the next line says how many were held back.
import pino from "pino";
import { priorities, stderrIsJournal, withPriority } from "./journal.ts";

const REPEAT_NANOS = 10_000_000_000n;
const CAUSES_MAX = 1000;

export type LogLevel = "debug" | "info" | "warn" | "error";
export type Facts = Readonly<Record<string, unknown>>;

/** Writes events. `event` is a fixed sentence, so that lines can be grouped and counted; facts are fields. */
export interface Log {
  debug(event: string, facts?: Facts): void;
  info(event: string, facts?: Facts): void;
  warn(event: string, facts?: Facts): void;
  error(event: string, facts?: Facts): void;
  /** A log whose lines all carry these facts. */
  with(facts: Facts): Log;
}

/** A log of JSON lines on stderr. Warnings and errors of one event and `cause` are limited to one line per 10 s. */
export function createLog(level: LogLevel | "silent" = "info"): Log {
  const stderr = pino.destination({ fd: 2, sync: true });
  const logger = pino(
    { base: null, messageKey: "event", level, timestamp: pino.stdTimeFunctions.isoTime },
    stderrIsJournal(process.env) ? { write: (line) => stderr.write(journalLine(line)) } : stderr,
  );
  return wrap(logger, {}, new Map());
}

/** A line as the journal reads it: pino writes `{"level":40,` first. */
export function journalLine(line: string): string {
  const { debug, error, info, warn } = priorities;
  const priority = { "2": debug, "3": info, "4": warn }[line[9] ?? ""] ?? error;
  return withPriority(line, priority);
}

/** A log that writes nothing: for pure tools and tests. */
export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  with: () => silentLog,
};

interface Repeat {
  until: bigint;
  held: number;
}

function wrap(logger: pino.Logger, bound: Facts, repeats: Map<string, Repeat>): Log {
  const limited = (level: "warn" | "error", event: string, facts: Facts = {}): void => {
    const key = `${level} ${event} ${String(bound["source"] ?? "")} ${String(facts["source"] ?? "")} ${String(facts["cause"] ?? "")}`;
    const now = process.hrtime.bigint();
    const repeat = repeats.get(key);
    if (repeat !== undefined && now < repeat.until) {
      repeat.held++;
      return;
    }
    if (repeats.size >= CAUSES_MAX) repeats.clear();
    repeats.set(key, { until: now + REPEAT_NANOS, held: 0 });
    logger[level](repeat?.held ? { ...facts, repeats: repeat.held } : facts, event);
  };
  return {
    debug: (event, facts = {}) => logger.debug(facts, event),
    info: (event, facts = {}) => logger.info(facts, event),
    warn: (event, facts) => limited("warn", event, facts),
    error: (event, facts) => limited("error", event, facts),
    with: (facts) => wrap(logger.child(facts), { ...bound, ...facts }, repeats),
  };
}
