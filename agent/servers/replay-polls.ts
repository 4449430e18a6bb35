// A server out of a format 2 recording: every recorded poll and gap is delivered at its own time, as the live source had
// delivered it, so that metering it again gives the same totals (METERING.md 10).
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Gap, Nanos, ServerInfo, TokenSample } from "../model.ts";
import type { JsonLine } from "../recording/files.ts";
import { finite, recordingName } from "../recording/files.ts";
import { pollOf } from "../recording/lines.ts";
import type { TraceTime } from "../recording/position.ts";
import type { PushServerSource, SourceContext } from "../source.ts";

/** Whether these are the lines of a format 2 server. */
export function holdsPolls(lines: readonly JsonLine[]): boolean {
  return lines.some((line) => Array.isArray(line["readings"]) || typeof line["error"] === "string");
}

/** What the recording says of the server in `path`: its id is the file's name, the rest is in recording.json. */
export function recordedInfo(
  path: string,
  entry: { readonly id?: string | undefined; readonly pollMs: number },
): ServerInfo {
  const id = recordingName(path).replace(/^server-/, "");
  const known = recordedServers(dirname(path)).find((server) => server["id"] === id) ?? {};
  const pids = Array.isArray(known["pids"])
    ? known["pids"].filter((pid) => finite(pid) !== undefined)
    : undefined;
  const gpus = Array.isArray(known["gpus"])
    ? known["gpus"].filter((gpu) => typeof gpu === "string")
    : undefined;
  return {
    id: entry.id ?? id,
    type: "replay",
    family: known["family"] === "gateway" ? "gateway" : "engine",
    address: path,
    pollMs: finite(known["poll_ms"]) ?? entry.pollMs,
    ...(pids === undefined ? {} : { pids }),
    ...(gpus === undefined ? {} : { gpus }),
  };
}

function recordedServers(folder: string): readonly JsonLine[] {
  try {
    const recording = JSON.parse(readFileSync(join(folder, "recording.json"), "utf8")) as JsonLine;
    return Array.isArray(recording["servers"]) ? (recording["servers"] as JsonLine[]) : [];
  } catch {
    // Without it the polls still say which GPUs and processes the server has.
    return [];
  }
}

/** Delivers the recorded polls in order; what lies before the clock's present is delivered at once. */
export function openRecordedPolls(
  info: ServerInfo,
  lines: readonly JsonLine[],
  time: TraceTime,
  context: SourceContext,
): PushServerSource {
  const instant = (seconds: number): Nanos => time.instant(Math.round(seconds * 1e6), 0);
  const events = lines
    .flatMap((line) => eventOf(line, info.id, instant) ?? [])
    .sort((left, right) => left.due - right.due);
  let closed = false;
  return {
    kind: "push",
    info,
    run: async (accept) => {
      for (const { due, event } of events) {
        const wait = due - context.clock.now();
        if (wait > 0) await context.clock.sleep(wait / 1e6, context.signal);
        if (closed) return;
        await accept(event);
      }
    },
    close: async () => {
      closed = true;
    },
  };
}

function eventOf(
  line: JsonLine,
  server: string,
  instant: (seconds: number) => Nanos,
): { readonly due: Nanos; readonly event: TokenSample | Gap } | undefined {
  const sample = pollOf(line, server, instant);
  if (sample !== undefined) return { due: sample.received, event: sample };
  const seconds = finite(line["t"]);
  if (seconds === undefined || typeof line["error"] !== "string") return undefined;
  const at = instant(seconds);
  return { due: at, event: { source: `server:${server}`, at, reason: line["error"] } };
}
