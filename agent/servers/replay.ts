// Token counters from a recording's server log, through the same seam as a live server (format 1, METERING.md 9, 10).
// A poll takes the totals and `requests_running` of the last line at or before it and nothing else: phase lines and
// measured latencies are the truth tests judge by, no input. A server whose `start` lies in the recording began at zero.
// Format 2 files hold the polls themselves: replay-polls.ts.
import { z } from "zod";
import type { Nanos, ServerInfo, TokenSample } from "../model.ts";
import type { PullServerSource, ServerType, SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import type { JsonLine } from "../text/recording.ts";
import { finite, readJsonLines, recordingName, traceMicros } from "../text/recording.ts";
import type { TraceTime } from "../text/trace-position.ts";
import { recordedTime } from "../text/trace-position.ts";
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
  readonly running: number;
}

/** A server's recording: totals by time, and when its process started, if that lies inside. */
export interface RecordedServer {
  readonly name: string;
  readonly pid?: number;
  readonly startMicros?: number;
  readonly totals: readonly RecordedTotals[];
  readonly problems: readonly string[];
}

/** Reads a server's recording. Throws SourceError when the file cannot be read or holds no counter. */
export function readServer(path: string): RecordedServer {
  const { lines, problems } = readJsonLines(path);
  const start = lines.find((line) => line["event"] === "start");
  const startMicros = traceMicros(start?.["t"]);
  const pid = finite(start?.["pid"]);
  const totals: RecordedTotals[] = [];
  let last = { inputTokens: 0, outputTokens: 0, requests: 0, running: 0 };
  for (const line of lines) {
    const micros = traceMicros(line["t"]);
    if (micros === undefined || !carriesTotals(line)) continue;
    last = {
      inputTokens: finite(line["prompt_tokens_total"]) ?? last.inputTokens,
      outputTokens: finite(line["generation_tokens_total"]) ?? last.outputTokens,
      requests: finite(line["requests_total"]) ?? last.requests,
      running: finite(line["requests_running"]) ?? last.running,
    };
    totals.push({ micros, ...last });
  }
  if (totals.length === 0 && startMicros === undefined) {
    throw new SourceError("misconfigured", `Cannot replay ${path}: no line carries a token counter`, {
      hint: "wanted lines with t, prompt_tokens_total, generation_tokens_total and requests_running",
    });
  }
  return {
    name: recordingName(path),
    totals,
    problems,
    ...(startMicros === undefined ? {} : { startMicros }),
    ...(pid === undefined ? {} : { pid }),
  };
}

/** What a poll at `micros` sees: the totals of the last line at or before it, zeros since the start, else nothing. */
export function totalsAt(server: RecordedServer, micros: number): RecordedTotals | undefined {
  let low = 0;
  let high = server.totals.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((server.totals[middle] as RecordedTotals).micros <= micros) low = middle + 1;
    else high = middle;
  }
  const found = server.totals[low - 1];
  if (found !== undefined) return found;
  if (server.startMicros === undefined || server.startMicros > micros) return undefined;
  return { micros: server.startMicros, inputTokens: 0, outputTokens: 0, requests: 0, running: 0 };
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
    ...(server.pid === undefined ? {} : { pids: [server.pid] }),
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
      const began = server.startMicros === undefined ? undefined : time.instant(server.startMicros, pass);
      return tokenSample(info, entry.model, totals, now, `pass-${pass}`, began);
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
        running: totals.running,
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
