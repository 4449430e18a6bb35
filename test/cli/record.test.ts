// Recording sources and metering the recording again: the same totals, and no identifier left.
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { recordSources } from "../../agent/cli/record-run.ts";
import { ReplayTotals } from "../../agent/cli/replay/lines.ts";
import { openRecording } from "../../agent/cli/replay/run.ts";
import { readGpus, recordedSpan, replayBackend } from "../../agent/gpu/replay.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { Recorder } from "../../agent/recording/recorder.ts";
import { replayServer } from "../../agent/servers/replay.ts";
import type { GpuSource, PullServerSource } from "../../agent/source.ts";

const trace = fileURLToPath(new URL("../fixtures/traces/h100-shared-8b-1b", import.meta.url));

/** Records a replayed trace at 1 s polls, as `record` does a host. */
async function recordTrace(mask: boolean): Promise<string> {
  const folder = join(mkdtempSync(join(tmpdir(), "record-")), "recording");
  const { gpus } = readGpus(trace);
  const { first, last } = recordedSpan(gpus);
  const clock = virtualClock(BigInt(first) * 1000n);
  const context = { clock, log: silentLog, signal: new AbortController().signal };
  const gpu = await replayBackend.open(replayBackend.config.parse({ path: trace }), context);
  const servers = ["8b", "1b"].map(
    (name) =>
      replayServer.open(
        {
          path: join(trace, `tokens-${name}.jsonl.gz`),
          pollMs: 1000,
          id: `secret-${name}`,
          model: "secret-model",
        },
        context,
      ) as PullServerSource,
  );
  const stop = new AbortController();
  const durationMs = (last - first) / 1000;
  const done = recordSources({ clock, gpu, servers, folder, gpuMs: 200, mask, durationMs, stop });
  await setImmediate();
  await clock.advance((last - first) * 1000);
  await done;
  return folder;
}

interface Totals {
  readonly servers: Readonly<
    Record<string, { readonly input_tokens: number; readonly output_tokens: number }>
  >;
  readonly state_seconds: Readonly<Record<string, number>>;
  readonly energy_joules: Readonly<Record<string, number>>;
}

async function totals(folder: string): Promise<Totals> {
  const sums = new ReplayTotals();
  const run = await openRecording({
    folder,
    gpuPollMs: 200,
    tokenPollMs: 1000,
    intervalMs: 1000,
    warn: () => {},
    onInterval: (interval) => sums.addInterval(interval),
  });
  sums.know(run.gpus, run.servers);
  await run.run();
  return sums.line() as Totals;
}

const total = (sums: Readonly<Record<string, number>>): number =>
  Object.values(sums).reduce((sum, one) => sum + one, 0);

test("a recording meters to the totals of what was recorded", async () => {
  const [before, after] = [await totals(trace), await totals(await recordTrace(false))];
  const tokens = ({ servers }: Totals): number[] =>
    Object.values(servers)
      .map(({ input_tokens, output_tokens }) => input_tokens + output_tokens)
      .sort((left, right) => left - right);
  expect(tokens(after)).toEqual(tokens(before));
  expect(tokens(after)[0]).toBeGreaterThan(1000);
  // Whose work beside others it was is judged by what has been read by then: of one instant a recording has the GPU first.
  for (const sums of ["state_seconds", "energy_joules"] as const) {
    expect(Object.keys(after[sums])).toEqual(Object.keys(before[sums]));
    for (const [state, wanted] of Object.entries(before[sums]))
      expect(Math.abs((after[sums][state] ?? 0) - wanted)).toBeLessThanOrEqual(1e-4 * total(before[sums]));
    expect(total(after[sums])).toBeCloseTo(total(before[sums]), 6);
  }
  expect(before.state_seconds["token_active"]).toBeGreaterThan(30);
});

test("gaps of GPUs and servers are recorded and replayed", async () => {
  const folder = join(mkdtempSync(join(tmpdir(), "record-")), "recording");
  const clock = virtualClock(1_700_000_000_000_000_000n);
  const recorder = new Recorder(folder, clock, { mask: false, gpuMs: 1000 });
  recorder.addGpus([{ uuid: "GPU-1", index: 0, name: "H100", weight: 1 }]);
  recorder.acceptGpu({ gpu: "GPU-1", at: 0, powerWatts: 70, powerRing: { instants: [0], values: [71] } });
  recorder.acceptGap({ source: "gpu:GPU-1", at: 1e9, reason: "lost" });
  recorder.acceptGap({ source: "server:a/b", at: 1e9, reason: "refused" });
  await recorder.close();
  const context = { clock, log: silentLog, signal: new AbortController().signal };
  const gpu = await replayBackend.open(replayBackend.config.parse({ path: folder }), context);
  await clock.advance(2e9);
  const { samples, gaps } = await gpu.poll();
  expect(samples).toMatchObject([
    { gpu: "GPU-1", powerWatts: 70, powerRing: { instants: [0], values: [71] } },
  ]);
  expect(gaps).toEqual([{ source: "gpu:GPU-1", at: 1e9, reason: "lost" }]);
  const server = replayServer.open({ path: join(folder, "server-a_b.jsonl"), pollMs: 1000 }, context);
  const seen: unknown[] = [];
  if (server.kind === "push") await server.run(async (event) => void seen.push(event));
  expect(seen).toEqual([{ source: "server:a_b", at: 1e9, reason: "refused" }]);
});

test("a masked recording names no GPU, server, model or epoch", async () => {
  const folder = await recordTrace(true);
  const uuid = readGpus(trace).gpus[0]?.info.uuid ?? "";
  const text = readdirSync(folder)
    .map((name) => readFileSync(join(folder, name), "utf8"))
    .join("\n");
  expect(text).not.toContain(uuid);
  expect(text).not.toContain("secret-model");
  expect(text).toContain('"model":"model-1"');
  expect(readGpus(folder).gpus[0]?.info.uuid).toBe("GPU-00000001-0000-4000-8000-000000000000");
});

test("recording over a recording is refused", async () => {
  const folder = await recordTrace(true);
  const clock = virtualClock(0n);
  const gpu = { generation: 0, inventory: async () => [], close: async () => {} } as unknown as GpuSource;
  const options = { clock, gpu, servers: [], gpuMs: 1000, mask: true, stop: new AbortController() };
  await expect(recordSources({ ...options, folder })).rejects.toThrow(/EEXIST/);
});
