// Holds the demo's last line (JSON lines on stdin) against the truth of the recording it played.
// Truth: tokens are the counters' movement, active time the union of [t - e2e_s, t] over the requests, energy the
// counter's movement (traces: one H100, driver 580.159.04). Exits 1 and says which figure is off.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

interface Summary {
  readonly type: string;
  readonly from: number;
  readonly to: number;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly state_seconds: Readonly<Record<string, number>>;
  readonly energy_joules: Readonly<Record<string, number>>;
  readonly received: { readonly requests: number; readonly data_points: number; readonly tokens: number };
}
type Line = Readonly<Record<string, number>> & { readonly event?: string };

const folder = new URL("../fixtures/traces/h100-solo-8b/", import.meta.url);
const read = (name: string): Line[] =>
  gunzipSync(readFileSync(new URL(name, folder)))
    .toString()
    .split("\n")
    .filter(Boolean)
    .map((text) => JSON.parse(text) as Line);
const stdin = readFileSync(0, "utf8").trim().split("\n");
const summary = JSON.parse(stdin.at(-1) ?? "{}") as Summary;
if (summary.type !== "summary") {
  console.error(
    `Cannot check the demo: wanted a summary as its last line, saw ${stdin.at(-1)?.slice(0, 200)}`,
  );
  process.exit(1);
}
const { from, to } = summary;
const tokenLines = read("tokens.jsonl.gz");
const gpuLines = read("gpu.jsonl.gz").filter((line) => line["energy_mj"] !== undefined);
const failures: string[] = [];
const check = (what: string, seen: number, wanted: number, tolerance: number): void => {
  const off = Math.abs(seen - wanted);
  console.log(
    `${off <= tolerance ? "ok  " : "FAIL"} ${what}: ${seen.toFixed(3)}, truth ${wanted.toFixed(3)} (tolerance ${tolerance.toFixed(3)})`,
  );
  if (!(off <= tolerance)) failures.push(what);
};
const at = (lines: readonly Line[], key: string, time: number): number =>
  lines.findLast((line) => (line["t"] ?? 0) <= time && line[key] !== undefined)?.[key] ?? 0;
const moved = (key: string): number => at(tokenLines, key, to) - at(tokenLines, key, from);

check(
  "seconds metered",
  Object.values(summary.state_seconds).reduce((a, b) => a + b, 0),
  to - from,
  1e-6,
);
check("input tokens", summary.input_tokens, moved("prompt_tokens_total"), 0);
check("output tokens", summary.output_tokens, moved("generation_tokens_total"), 0);
check(
  "token-active seconds",
  summary.state_seconds["token_active"] ?? 0,
  activeSeconds(),
  0.02 * (to - from) + 0.2,
);
const joules = (at(gpuLines, "energy_mj", to) - at(gpuLines, "energy_mj", from)) / 1000;
check(
  "joules",
  Object.values(summary.energy_joules).reduce((a, b) => a + b, 0),
  joules,
  0.02 * joules + 150,
);
check(
  "tokens the collector received",
  summary.received.tokens,
  summary.input_tokens + summary.output_tokens,
  0,
);
if (!(summary.received.data_points > 0)) failures.push("data points received");
if (failures.length > 0) {
  console.error(`The demo's numbers are off: ${failures.join(", ")}`);
  process.exit(1);
}

function activeSeconds(): number {
  const spans = tokenLines
    .filter((line) => line.event === "req" && line["e2e_s"] !== undefined)
    .map((line) => [(line["t"] ?? 0) - (line["e2e_s"] ?? 0), line["t"] ?? 0] as const)
    .sort((a, b) => a[0] - b[0]);
  let sum = 0;
  let end = from;
  for (const [start, stop] of spans) {
    const lower = Math.max(start, end);
    const upper = Math.min(stop, to);
    if (upper > lower) sum += upper - lower;
    end = Math.max(end, Math.min(stop, to));
  }
  return sum;
}
