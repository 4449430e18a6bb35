// The truth of a recorded trace: who was served when, from the measured latencies the program itself never reads.
// A request was being served from t - e2e_s to t of its `event: req` line; the union of these is token-active time.
import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

export type Span = readonly [from: number, to: number];
export type TraceLine = Readonly<Record<string, unknown>>;

/** One server of a trace: its active spans, its phases and what it counted in the end. */
export interface ServerTruth {
  readonly name: string;
  readonly active: readonly Span[];
  readonly phases: readonly { readonly phase: string; readonly from: number; readonly to: number }[];
  readonly inputTokens: number;
  readonly outputTokens: number;
}

export interface TraceTruth {
  readonly folder: string;
  readonly first: number;
  readonly last: number;
  readonly gpuLines: readonly TraceLine[];
  readonly servers: readonly ServerTruth[];
  /** Union over the servers. */
  readonly active: readonly Span[];
}

/** Reads a trace folder (files may be gzipped). */
export function traceTruth(folder: URL): TraceTruth {
  const lines = (name: string): TraceLine[] => {
    const bytes = readFileSync(new URL(name, folder));
    const text = (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
    return text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line) as TraceLine);
  };
  const names = readdirSync(folder).sort();
  const gpuLines = lines(names.find((name) => name.startsWith("gpu.jsonl")) ?? "gpu.jsonl").filter(
    (line) => line["kind"] !== "device",
  );
  const first = Number(gpuLines[0]?.["t"]);
  const last = Number(gpuLines.at(-1)?.["t"]);
  const servers = names
    .filter((name) => name.startsWith("tokens"))
    .map((name) => serverTruth(name.replace(/\.jsonl(\.gz)?$/, ""), lines(name), last));
  const active = union(servers.flatMap((server) => server.active));
  return { folder: folder.pathname, first, last, gpuLines, servers, active };
}

/** Seconds of the spans that lie in [from, to). */
export function within(spans: readonly Span[], from: number, to: number): number {
  return spans.reduce((sum, [start, end]) => sum + Math.max(0, Math.min(end, to) - Math.max(start, from)), 0);
}

function serverTruth(name: string, lines: readonly TraceLine[], last: number): ServerTruth {
  const requests = lines.filter((line) => line["event"] === "req" && line["e2e_s"] !== undefined);
  const phases = lines.filter((line) => line["event"] === "phase");
  const ends = [...phases.slice(1), lines.find((line) => line["event"] === "end") ?? { t: last }];
  const counted = (key: string): number =>
    Number(lines.findLast((line) => line[key] !== undefined)?.[key] ?? 0);
  return {
    name,
    active: union(
      requests.map((line): Span => [Number(line["t"]) - Number(line["e2e_s"]), Number(line["t"])]),
    ),
    phases: phases.map((line, index) => ({
      phase: String(line["phase"]),
      from: Number(line["t"]),
      to: Number(ends[index]?.["t"]),
    })),
    inputTokens: counted("prompt_tokens_total"),
    outputTokens: counted("generation_tokens_total"),
  };
}

function union(spans: readonly Span[]): Span[] {
  const merged: [number, number][] = [];
  for (const [from, to] of [...spans].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}
