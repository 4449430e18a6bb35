// `npm run test:gpu [-- --out DIR --seconds 60]`: what must hold on a host with a GPU, in one command of under six minutes.
// Doctor as this user and as uid 65534; every backend against every other (doctor --measure); a CUDA load of known token
// counts, recorded and replayed, judged by METERING.md 2. Without a driver the same runs against the fake library and the
// table says which lines need hardware. Captures and the table are left in --out.
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import type { MeasuredLine } from "../../agent/cli/measure/compare.ts";
import type { FakeNvml } from "../fakes/nvml/build.ts";
import { buildFakeNvml, fakeNvml } from "../fakes/nvml/build.ts";
import { traceTruth, within } from "../tools/trace-truth.ts";
import { fakeLoad } from "./fake-load.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const NOBODY = 65_534;
const FAKE_UUID = "GPU-00000000-0000-4000-8000-000000000000";

/** One line of the result. */
interface Row {
  readonly what: string;
  readonly seen: string;
  readonly bound: string;
  readonly verdict: string;
  /** Says nothing about the program without a real GPU. */
  readonly needsHardware: boolean;
}

const { values } = parseArgs({
  options: {
    out: { type: "string", default: process.env["OUT"] ?? "gpu-acceptance" },
    seconds: { type: "string", default: "60" },
  },
});
const out = values.out;
const seconds = Math.max(12, Number(values.seconds));
mkdirSync(out, { recursive: true });
const hardware = existsSync("/proc/driver/nvidia/version");
const fake = hardware ? undefined : fakeHost();
const settings = fake?.settings ?? [];
const rows: Row[] = [];

console.log(
  hardware
    ? "a kernel driver is loaded: measuring hardware"
    : "NO DRIVER HERE: running whole against the fake library",
);
if (hardware) capture();
doctors();
measured(Math.min(60, seconds));
await load(seconds);
report();
process.exitCode = rows.some(({ verdict }) => verdict === "fail") ? 1 : 0;

/** A fake library and a fake nvidia-smi that say the same of one GPU. */
function fakeHost(): { readonly nvml: FakeNvml; readonly settings: readonly string[] } {
  const library = buildFakeNvml({ version: "580.126.09" });
  if (library === undefined) throw new Error("Cannot build the fake library: no C compiler works here");
  const nvml = fakeNvml(library, "gpus 1", "processes 0 1", "util 0 40", "power 0 300000", "energy 0 300000");
  const folder = mkdtempSync(join(tmpdir(), "nvidia-smi-"));
  // Doctor reads them as another user too.
  for (const one of [folder, dirname(nvml.path)]) chmodSync(one, 0o755);
  writeFileSync(join(folder, "rows.csv"), `${FAKE_UUID}, 40, 3, 4000, 300.00, 300.00, 300.00, 50, 45\n`);
  const tool = join(here, "../fakes/nvidia-smi");
  const smi = join(folder, "nvidia-smi");
  writeFileSync(smi, `#!/bin/sh\nexport FAKE_ROWS='${folder}/rows.csv'\nexec '${tool}' "$@"\n`, {
    mode: 0o755,
  });
  return { nvml, settings: [`gpu.nvml.libraryPath=${nvml.path}`, `gpu.nvidia-smi.path=${smi}`] };
}

function tokenwatt(
  words: readonly string[],
  options: { readonly uid?: number; readonly set?: boolean } = {},
) {
  const set = options.set === false ? [] : settings.flatMap((setting) => ["--set", setting]);
  const identity = options.uid === undefined ? {} : { uid: options.uid, gid: options.uid };
  return spawnSync(process.execPath, [main, ...words, ...set], {
    encoding: "utf8",
    maxBuffer: 64 * 2 ** 20,
    env: {
      ...process.env,
      ...(options.uid === undefined ? {} : { HOME: "/nonexistent", NODE_COMPILE_CACHE: "" }),
    },
    ...identity,
  });
}

/** What the tools of this driver print, for fixtures. */
function capture(): void {
  const commands: readonly (readonly [string, readonly string[]])[] = [
    ["q.xml", ["-q", "-x"]],
    ["L.txt", ["-L"]],
    ["help-query-gpu.txt", ["--help-query-gpu"]],
    [
      "query-compute-apps.csv",
      ["--query-compute-apps=gpu_uuid,pid,used_gpu_memory,process_name", "--format=csv"],
    ],
    ["pmon-um.txt", ["pmon", "-s", "um", "-c", "3"]],
    ["dmon-pucvmet.txt", ["dmon", "-s", "pucvmet", "-c", "3"]],
  ];
  for (const [name, words] of commands) {
    const { stdout } = spawnSync("nvidia-smi", words, { encoding: "utf8", timeout: 20_000 });
    if (stdout) writeFileSync(join(out, `nvidia-smi.${name}`), stdout);
  }
}

function doctors(): void {
  const users = process.getuid?.() === 0 ? [undefined, NOBODY] : [undefined];
  for (const uid of users) {
    const who = uid === undefined ? "this user" : `uid ${uid}`;
    const { status, stderr, stdout } = tokenwatt(
      ["doctor", "--only", "gpu", "--json"],
      uid === undefined ? {} : { uid },
    );
    let failed: readonly string[] = [];
    try {
      const { findings } = JSON.parse(stdout) as {
        findings: readonly { id: string; seen: string; verdict: string }[];
      };
      failed = findings.filter(({ verdict }) => verdict === "fail").map(({ id, seen }) => `${id}: ${seen}`);
      writeFileSync(join(out, `doctor-${uid ?? "self"}.json`), stdout);
    } catch {
      failed = [`no answer, exit ${status}: ${stderr.split("\n")[0]}`];
    }
    rows.push({
      what: `doctor as ${who}`,
      seen: failed.length === 0 ? "no failure" : failed.join("; "),
      bound: "no failure",
      verdict: failed.length === 0 ? "ok" : "fail",
      needsHardware: true,
    });
  }
}

function measured(length: number): void {
  const { stderr, stdout } = tokenwatt([
    "doctor",
    "--only",
    "gpu.backend",
    "--json",
    "--measure",
    `${length}s`,
  ]);
  try {
    writeFileSync(join(out, "measured.json"), stdout);
    const { lines } = (JSON.parse(stdout) as { measured: { lines: readonly MeasuredLine[] } }).measured;
    for (const { bound, gpu, seen, verdict, what } of lines)
      rows.push({
        what: gpu === undefined ? what : `${what} (${gpu.slice(0, 12)})`,
        seen,
        bound,
        verdict,
        needsHardware: true,
      });
  } catch {
    rows.push({
      what: "doctor --measure",
      seen: stderr.split("\n")[0] ?? "",
      bound: "an answer",
      verdict: "fail",
      needsHardware: false,
    });
  }
}

/** Records the GPU while a load of known token counts runs, replays both and judges them. */
async function load(length: number): Promise<void> {
  const recording = join(mkdtempSync(join(tmpdir(), "acceptance-")), "recording");
  const words = [
    "record",
    recording,
    "--no-mask",
    "--duration",
    `${length + 3}s`,
    ...settings.flatMap((one) => ["--set", one]),
  ];
  const recorder = spawn(process.execPath, [main, ...words], { stdio: "ignore" });
  const ended = new Promise<void>((resolve) => recorder.once("exit", () => resolve()));
  const trace = join(out, "trace");
  mkdirSync(trace, { recursive: true });
  const log = join(trace, "tokens-load.jsonl");
  const problem = await run(log, length);
  await ended;
  if (problem !== undefined) {
    rows.push({
      what: "a load of known token counts",
      seen: problem,
      bound: "torch with CUDA",
      verdict: "skip",
      needsHardware: true,
    });
    return;
  }
  const first = readdirSync(recording).find((name) => name.startsWith("gpu-"));
  if (first === undefined) throw new Error(`Cannot judge the load: ${recording} holds no GPU`);
  copyFileSync(join(recording, first), join(trace, "gpu.jsonl"));
  judge(trace);
}

/** Runs the load; why it did not, where it did not. */
async function run(log: string, length: number): Promise<string | undefined> {
  if (fake !== undefined) {
    await fakeLoad(log, length, fake.nvml);
    return undefined;
  }
  return new Promise((resolve) => {
    const python = spawn("python3", [join(here, "load.py"), log, String(length)], {
      stdio: ["ignore", "inherit", "pipe"],
    });
    let said = "";
    python.stderr.on("data", (chunk) => {
      said += String(chunk);
    });
    python.once("error", (error) => resolve(error.message));
    python.once("exit", (code) =>
      resolve(code === 0 ? undefined : said.trim().split("\n").at(-1) || `exit ${code}`),
    );
  });
}

/** METERING.md 2: the bounds of a trace of length L at 1 s token polls. */
function judge(trace: string): void {
  const { active, first, last, servers } = traceTruth(pathToFileURL(`${trace}/`));
  const { stdout, stderr } = tokenwatt(
    ["replay", trace, "--json", "--token-poll", "1s", "--gpu-poll", "1s"],
    { set: false },
  );
  const lines = stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, never>);
  const totals = lines.at(-1) as unknown as
    | {
        readonly state_seconds: Readonly<Record<string, number>>;
        readonly energy_joules: Readonly<Record<string, number>>;
        readonly servers: Readonly<Record<string, { readonly output_tokens: number }>>;
      }
    | undefined;
  if (totals?.state_seconds === undefined) {
    rows.push({
      what: "replay of the load",
      seen: stderr.split("\n")[0] ?? "",
      bound: "totals",
      verdict: "fail",
      needsHardware: false,
    });
    return;
  }
  const length = last - first;
  const truth = within(active, first, last);
  const seen = totals.state_seconds["token_active"] ?? 0;
  const add = (what: string, left: number, right: number, most: number, unit: string): void => {
    rows.push({
      what,
      seen: `${left.toFixed(2)} of ${right.toFixed(2)} ${unit}`,
      bound: `${most.toFixed(2)} ${unit}`,
      verdict: Math.abs(left - right) <= most ? "ok" : "fail",
      needsHardware: true,
    });
  };
  add("token-active time against the load's own", seen, truth, 0.02 * length, "s");
  const output = servers.reduce((sum, { outputTokens }) => sum + outputTokens, 0);
  const counted = Object.values(totals.servers).reduce((sum, one) => sum + one.output_tokens, 0);
  add("output tokens against the load's own", counted, output, 0, "tokens");
  const states = Object.values(totals.state_seconds).reduce((sum, one) => sum + one, 0);
  add("states against wall time", states, length, 0.01, "s");
}

function report(): void {
  const cells = (row: Row): string =>
    `| ${row.verdict} | ${row.what} | ${row.seen} | ${row.bound} | ${row.needsHardware ? (hardware ? "measured" : "needs hardware: fake library here") : "no"} |`;
  const text = [
    `# GPU acceptance, ${hardware ? "on hardware" : "against the fake library: NOTHING HERE IS A MEASUREMENT"}`,
    "",
    "| verdict | what | seen | bound | hardware |",
    "|---|---|---|---|---|",
    ...rows.map(cells),
    "",
  ].join("\n");
  writeFileSync(join(out, "gpu-acceptance.md"), text);
  console.log(text);
  console.log(`captures and table in ${out}`);
}
