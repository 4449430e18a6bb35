// `tokenwatt doctor --measure 60s`: reads this host's GPUs through every backend that works, side by side, and holds them
// against each other within stated bounds: utilisation, power, energy, and what reading costs. Nothing is metered.
import { readFileSync } from "node:fs";
import type { LoadedConfig } from "../../config/load.ts";
import { configuredBackends } from "../../config/load.ts";
import type { GpuInfo, GpuSample } from "../../model.ts";
import type { GpuSource, SourceContext } from "../../source.ts";
import { within } from "../checks/check.ts";
import { kernelDriverVersion } from "../checks/driver.ts";
import type { BackendReadings, MeasuredLine } from "./compare.ts";
import { compareBackends } from "./compare.ts";

const OPEN_MS = 45_000;
const POLL_MS = 1000;
/** USER_HZ, in which /proc counts processor time on every Linux of ours. */
const TICKS_PER_SECOND = 100;

/** What was measured. */
export interface Measurement {
  readonly seconds: number;
  /** The loaded kernel driver; absent = what was read is no hardware. */
  readonly driver?: string;
  readonly backends: readonly { readonly name: string; readonly gpus: number; readonly problem?: string }[];
  readonly lines: readonly MeasuredLine[];
}

/** Measures for `ms`. Never throws for what a backend does. */
export async function measure(
  context: SourceContext,
  { config }: LoadedConfig,
  ms: number,
  root: string,
): Promise<Measurement> {
  const backends: { name: string; gpus: number; problem?: string }[] = [];
  const runs = configuredBackends(config).map(async ({ backend, section }) => {
    let source: GpuSource | undefined;
    try {
      source = await within(context, OPEN_MS, `opening ${backend.name}`, backend.open(section, context));
      const readings = await follow(context, source, ms);
      backends.push({ name: backend.name, gpus: readings.gpus.length });
      return readings;
    } catch (error) {
      backends.push({ name: backend.name, gpus: 0, problem: (error as Error).message });
      return undefined;
    } finally {
      await source?.close().catch(() => {});
    }
  });
  const readings = (await Promise.all(runs)).filter((one) => one !== undefined);
  const driver = kernelDriverVersion(root);
  return {
    seconds: ms / 1000,
    ...(driver === undefined ? {} : { driver }),
    backends,
    lines: compareBackends(readings),
  };
}

async function follow(context: SourceContext, source: GpuSource, ms: number): Promise<BackendReadings> {
  const { clock } = context;
  const samples = new Map<string, GpuSample[]>();
  const began = clock.now();
  const before = processorSeconds(source);
  const failures: string[] = [];
  while (clock.now() - began < ms * 1e6) {
    try {
      for (const sample of (await source.poll()).samples) {
        const own = samples.get(sample.gpu) ?? [];
        own.push(sample);
        samples.set(sample.gpu, own);
      }
    } catch (error) {
      failures.push((error as Error).message);
    }
    await clock.sleep(POLL_MS, context.signal);
  }
  const after = processorSeconds(source);
  const gpus: readonly GpuInfo[] = await source.inventory();
  return {
    backend: source.backend,
    gpus,
    samples,
    seconds: (clock.now() - began) / 1e9,
    failures,
    ...(before === undefined || after === undefined ? {} : { processorSeconds: after - before }),
  };
}

/** Processor time of the process that reads for this source; undefined where it has none, or was replaced. */
function processorSeconds(source: GpuSource): number | undefined {
  try {
    const stat = readFileSync(`/proc/${source.status()["pid"]}/stat`, "latin1");
    const [user, system] = stat
      .slice(stat.lastIndexOf(")") + 2)
      .split(" ")
      .slice(11, 13)
      .map(Number);
    return ((user ?? Number.NaN) + (system ?? Number.NaN)) / TICKS_PER_SECOND;
  } catch {
    return undefined;
  }
}
