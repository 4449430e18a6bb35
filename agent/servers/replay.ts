// Token counters from a recording's server log, through the same seam as a live server (format 1, METERING.md 9, 10).
// A poll takes the totals and `requests_running` of the last line at or before it and nothing else: phase lines and
// measured latencies are the truth tests judge by, no input. A server whose `start` lies in the recording began at zero.
// Format 2 files hold the polls themselves: replay-polls.ts.
import { z } from "zod";
import type { Nanos, ServerInfo, TokenSample } from "../model.ts";
import type { JsonLine } from "../recording/files.ts";
import { finite, readJsonLines, recordingName, traceMicros } from "../recording/files.ts";
import type { TraceTime } from "../recording/position.ts";
import { recordedTime } from "../recording/position.ts";
import type { PullServerSource, ServerType, SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import { holdsPolls, openRecordedPolls, recordedInfo } from "./replay-polls.ts";

const config = z.strictObject({
  id: z.string().min(1).optional(),
  /** The server's file in a recording, for example recording/tokens.jsonl. */
  path: z.string().min(1),
  model: z.string().optional(),
  pollMs: z.number().positive().default(1000),
});

/** Replays a recorded server's counters. */
export const replayServer: ServerType<typeof config> = {
  name: "replay",
  config,
  example: { path: "recording/tokens.jsonl" },
  check: ({ path }) => {
    if (!holdsPolls(readJsonLines(path).lines)) readServer(path);
  },
  open: (entry, context) => {
    const time = recordedTime(context.clock);
    const { lines } = readJsonLines(entry.path);
    return holdsPolls(lines)
      ? openRecordedPolls(recordedInfo(entry.path, entry), lines, time, context)
      : openReplay(entry, context, time);
  },
};

/** Totals of a server at one place of its recording. */
export interface RecordedTotals {
  readonly micros: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly requests: number;
  /** Absent in a recording that never says. */
  readonly running?: number;
  /** Which run of the server: its process was started again, or its counters fell. */
  readonly run: number;
}

/** A server's recording: its totals in order of time, and when each run started, where that lies inside. */
export interface RecordedServer {
  readonly name: string;
  /** Of every run. */
  readonly pids: readonly number[];
  readonly starts: readonly (number | undefined)[];
  readonly totals: readonly RecordedTotals[];
  readonly problems: readonly string[];
}

/** Reads a server's recording. Throws SourceError when the file cannot be read or holds no counter. */
export function readServer(path: string): RecordedServer {
  const { lines, problems } = readJsonLines(path);
  const idle = lines.some((line) => finite(line["requests_running"]) !== undefined) ? { running: 0 } : {};
  const pids = new Set<number>();
  const starts: (number | undefined)[] = [];
  const totals: RecordedTotals[] = [];
  for (const line of lines) {
    const micros = traceMicros(line["t"]);
    if (micros === undefined) continue;
    const pid = finite(line["pid"]);
    if (line["event"] === "start") {
      if (pid !== undefined) pids.add(pid);
      starts.push(micros);
      totals.push({ micros, inputTokens: 0, outputTokens: 0, requests: 0, run: starts.length - 1, ...idle });
    } else if (carriesTotals(line)) {
      totals.push(nextTotals(line, micros, totals.at(-1), starts));
    }
  }
  if (totals.length === 0) {
    throw new SourceError("misconfigured", `Cannot replay ${path}: no line carries a token counter`, {
      hint: "wanted lines with t, prompt_tokens_total, generation_tokens_total and requests_running",
    });
  }
  return { name: recordingName(path), pids: [...pids], starts, totals, problems };
}

/** Totals after a line; counters that fell without a `start` line are a run of their own with an unknown start. */
function nextTotals(
  line: JsonLine,
  micros: number,
  last: RecordedTotals | undefined,
  starts: (number | undefined)[],
): RecordedTotals {
  const inputTokens = finite(line["prompt_tokens_total"]) ?? last?.inputTokens ?? 0;
  const outputTokens = finite(line["generation_tokens_total"]) ?? last?.outputTokens ?? 0;
  const fell = last !== undefined && (inputTokens < last.inputTokens || outputTokens < last.outputTokens);
  if (fell || starts.length === 0) starts.push(undefined);
  const running = finite(line["requests_running"]) ?? last?.running;
  return {
    micros,
    inputTokens,
    outputTokens,
    requests: finite(line["requests_total"]) ?? (fell ? 0 : (last?.requests ?? 0)),
    run: starts.length - 1,
    ...(running === undefined ? {} : { running }),
  };
}

/** What a poll at `micros` sees: the totals of the last line at or before it; nothing before the first. */
export function totalsAt(server: RecordedServer, micros: number): RecordedTotals | undefined {
  let low = 0;
  let high = server.totals.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((server.totals[middle] as RecordedTotals).micros <= micros) low = middle + 1;
    else high = middle;
  }
  return server.totals[low - 1];
}

function openReplay(
  entry: z.output<typeof config>,
  context: SourceContext,
  time: TraceTime,
): PullServerSource {
  const server = readServer(entry.path);
  const info: ServerInfo = {
    id: entry.id ?? server.name,
    type: "replay",
    family: "engine",
    address: entry.path,
    pollMs: entry.pollMs,
    ...(server.pids.length === 0 ? {} : { pids: server.pids }),
  };
  for (const problem of server.problems) context.log.warn("recording line left out", { cause: problem });
  return {
    kind: "pull",
    info,
    poll: async () => {
      const now = context.clock.now();
      const { micros, pass } = time.position(now);
      const totals = totalsAt(server, micros);
      if (totals === undefined) {
        throw new SourceError(
          "transient",
          `Cannot read server ${info.id}: it has not started yet in the recording`,
        );
      }
      const start = server.starts[totals.run];
      const began = start === undefined ? undefined : time.instant(start, pass);
      return tokenSample(info, entry.model, totals, now, `${pass}.${totals.run}`, began);
    },
    close: async () => {},
  };
}

function tokenSample(
  info: ServerInfo,
  model: string | undefined,
  totals: RecordedTotals,
  now: Nanos,
  epoch: string,
  epochBegan: Nanos | undefined,
): TokenSample {
  return {
    server: info.id,
    family: "engine",
    sent: now,
    received: now,
    at: now,
    readings: [
      {
        role: "combined",
        volume: "step",
        tokens: { input_unsplit: totals.inputTokens, output: totals.outputTokens },
        requests: { ok: totals.requests },
        ...(totals.running === undefined ? {} : { running: totals.running }),
        epoch,
        ...(epochBegan === undefined ? {} : { epochBegan }),
        ...(model === undefined ? {} : { model }),
      },
    ],
    ...(info.pids === undefined ? {} : { pids: info.pids }),
    ignoredSamples: 0,
    errors: [],
  };
}

function carriesTotals(line: JsonLine): boolean {
  return ["prompt_tokens_total", "generation_tokens_total", "requests_total", "requests_running"].some(
    (key) => finite(line[key]) !== undefined,
  );
}
