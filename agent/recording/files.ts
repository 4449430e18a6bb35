// Recordings on disk: which files a recording folder holds, and its JSON lines.
// Format 1 is one `gpu.jsonl` and `tokens*.jsonl`; format 2 has a `recording.json`, `gpu-*.jsonl` and `server-*.jsonl`
// (METERING.md 10). Files may be gzipped (`.gz`). Lines that are no JSON are left out and named.
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { readFileOf } from "../platform/files.ts";
import { SourceError } from "../source.ts";

const MALFORMED_MAX = 20;
const FILE_BYTES_MAX = 1024 * 1024 * 1024;

/** One object of a JSON-lines file. */
export type JsonLine = Readonly<Record<string, unknown>>;

/** The objects of a file. */
export interface JsonLines {
  readonly lines: readonly JsonLine[];
  /** What was wrong with the lines left out, with file and line number; at most 20 texts. */
  readonly problems: readonly string[];
  readonly malformed: number;
}

/** The files of a recording folder. */
export interface RecordingFiles {
  readonly format: 1 | 2;
  readonly folder: string;
  /** Paths, sorted by name. */
  readonly gpus: readonly string[];
  readonly servers: readonly string[];
}

/** The files of a recording. Throws SourceError `misconfigured` when the folder is no recording. */
export function listRecording(folder: string): RecordingFiles {
  let names: string[];
  try {
    names = readdirSync(folder).sort();
  } catch (cause) {
    throw new SourceError("misconfigured", `Cannot open recording ${folder}: ${(cause as Error).message}`, {
      hint: "give the folder that holds gpu.jsonl and tokens*.jsonl",
      cause,
    });
  }
  const format = names.includes("recording.json") ? 2 : 1;
  const pick = (pattern: RegExp): string[] =>
    names.filter((name) => pattern.test(name)).map((name) => join(folder, name));
  const gpus = pick(format === 2 ? /^gpu-.*\.jsonl(\.gz)?$/ : /^gpu(-.*)?\.jsonl(\.gz)?$/);
  if (gpus.length === 0) {
    const seen = names.length === 0 ? "an empty folder" : names.slice(0, 10).join(", ");
    throw new SourceError("misconfigured", `Cannot replay ${folder}: wanted gpu.jsonl in it, found ${seen}`, {
      hint: "record one with `tokenwatt record DIR`, or name the folder that holds gpu.jsonl",
    });
  }
  return {
    format,
    folder,
    gpus,
    servers: pick(format === 2 ? /^server-.*\.jsonl(\.gz)?$/ : /^tokens.*\.jsonl(\.gz)?$/),
  };
}

/** The name of a recording's file without folder and ending: `tokens-8b.jsonl.gz` -> `tokens-8b`. */
export function recordingName(path: string): string {
  return basename(path).replace(/\.jsonl(\.gz)?$/, "");
}

/** Every line of a JSON-lines file that is an object. Throws SourceError when the file cannot be read. */
export function readJsonLines(path: string): JsonLines {
  const lines: JsonLine[] = [];
  const problems: string[] = [];
  let malformed = 0;
  const texts = readText(path).split("\n");
  for (let index = 0; index < texts.length; index++) {
    const text = texts[index] as string;
    if (text.trim() === "") continue;
    const line = parseLine(text);
    if (typeof line === "string") {
      malformed++;
      if (problems.length < MALFORMED_MAX) {
        problems.push(
          `${path}:${index + 1}: ${line}: ${text.length > 60 ? `${text.slice(0, 60)}...` : text}`,
        );
      }
    } else {
      lines.push(line);
    }
  }
  return { lines, problems, malformed };
}

/** Trace seconds as integer microseconds; undefined when the field is no finite number. */
export function traceMicros(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? Math.round(value * 1e6) : undefined;
}

/** A finite number, or undefined. */
export function finite(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function readText(path: string): string {
  try {
    const bytes = readFileOf(path, FILE_BYTES_MAX);
    const plain = path.endsWith(".gz") ? gunzipSync(bytes, { maxOutputLength: FILE_BYTES_MAX }) : bytes;
    return plain.toString("utf8");
  } catch (cause) {
    throw new SourceError("misconfigured", `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

function parseLine(text: string): JsonLine | string {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonLine;
    return "wanted a JSON object, saw another value";
  } catch (error) {
    return `no JSON (${(error as Error).message.split("\n")[0]})`;
  }
}
