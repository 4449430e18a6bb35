// The one door to pino: one JSON line per event, `event` a fixed sentence, facts as fields.
// Warnings and errors: repeats of one cause are limited to one line per 10 s, and lines of one event and source to 20,
// whatever causes a peer makes up; the next line says how many were held back.
import pino from "pino";
import { priorities, stderrIsJournal, withPriority } from "./journal.ts";

const REPEAT_NANOS = 10_000_000_000n;
const CAUSES_MAX = 1000;
const EVENT_LINES_MAX = 20;

/** The least level that is written. */
export type LogLevel = "debug" | "info" | "warn" | "error";
/** The fields of a log line. */
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

/**
 * A log of JSON lines on stderr, or to `write`, which gets each with its end. Warnings and errors are limited per cause and
 * per event.
 */
export function createLog(level: LogLevel | "silent" = "info", write?: (line: string) => void): Log {
  const logger = pino(
    { base: null, messageKey: "event", level, timestamp: pino.stdTimeFunctions.isoTime },
    write === undefined ? toStderr() : { write },
  );
  return wrap(logger, {}, new Limiter());
}

function toStderr(): pino.DestinationStream {
  const stderr = pino.destination({ fd: 2, sync: true });
  return stderrIsJournal(process.env) ? { write: (line) => stderr.write(journalLine(line)) } : stderr;
}

/**
 * A line as the journal reads it: pino writes `{"level":40,` first.
 * Exported for its test: lines of every level.
 */
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

/** What was written lately: the same cause once, the same event a bounded number of times. */
class Limiter {
  readonly #causes = new Map<string, Repeat>();
  readonly #events = new Map<string, Repeat & { written: number }>();

  /** How many lines were held back before one that may be written now; undefined where it may not. */
  admit(event: string, cause: string): number | undefined {
    const now = process.hrtime.bigint();
    // Ports, counts and addresses in a text make no other cause of it.
    const key = `${event} ${cause.replaceAll(/\d+/g, "#")}`;
    const repeat = this.#causes.get(key);
    if (repeat !== undefined && now < repeat.until) {
      repeat.held++;
      return undefined;
    }
    let lately = this.#events.get(event);
    if (lately === undefined || now >= lately.until) {
      if (this.#events.size >= CAUSES_MAX) this.#events.clear();
      lately = { until: now + REPEAT_NANOS, held: lately?.held ?? 0, written: 0 };
      this.#events.set(event, lately);
    }
    if (++lately.written > EVENT_LINES_MAX) {
      lately.held++;
      return undefined;
    }
    // The oldest go first: whoever brings ever new causes does not make the others new.
    for (const old of this.#causes.keys()) {
      if (this.#causes.size < CAUSES_MAX) break;
      this.#causes.delete(old);
    }
    this.#causes.delete(key);
    this.#causes.set(key, { until: now + REPEAT_NANOS, held: 0 });
    const held = (repeat?.held ?? 0) + lately.held;
    lately.held = 0;
    return held;
  }
}

function wrap(logger: pino.Logger, bound: Facts, limiter: Limiter): Log {
  const limited = (level: "warn" | "error", event: string, facts: Facts = {}): void => {
    const of = `${String(bound["source"] ?? "")} ${String(facts["source"] ?? "")}`;
    const held = limiter.admit(`${level} ${event} ${of}`, String(facts["cause"] ?? ""));
    if (held !== undefined) logger[level](held > 0 ? { ...facts, repeats: held } : facts, event);
  };
  return {
    debug: (event, facts = {}) => logger.debug(facts, event),
    info: (event, facts = {}) => logger.info(facts, event),
    warn: (event, facts) => limited("warn", event, facts),
    error: (event, facts) => limited("error", event, facts),
    with: (facts) => wrap(logger.child(facts), { ...bound, ...facts }, limiter),
  };
}
