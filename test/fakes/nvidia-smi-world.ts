// The resident query of the fake nvidia-smi for a simulated host that runs in real time: each row shows what its GPU does
// at the instant it is printed, as an H100's driver does: utilisation of the newest 200 ms window that is over, power as
// the mean of the last second and of the last 25 ms. Arguments: the world's file, then the query. Before the world begins
// its GPUs are held and idle.
import { existsSync, readFileSync } from "node:fs";
import { Random } from "../simulator/random.ts";
import type { GpuTruth, Host } from "../simulator/world.ts";
import { simulate } from "../simulator/world.ts";

/** What the file of a world says. */
export interface World {
  readonly host: Host;
  readonly uuids: readonly string[];
  /** A file that appears when the world begins; it says when that was, in nanoseconds of the machine's monotonic clock. */
  readonly beginFile: string;
  /** Rounds that the tool does not come to: a share of them by chance, and `silence` every so often. */
  readonly missed?: {
    readonly share: number;
    readonly silence: { readonly everyMs: number; readonly ms: number };
  };
}

const windowMs = 200;

/** One GPU as its driver shows it at a millisecond of its world; before 0 it is idle. */
function rowOf(uuid: string, gpu: GpuTruth, floorWatts: number, ms: number): string {
  const mean = (values: Float32Array, from: number, to: number): number => {
    let sum = 0;
    for (let at = Math.max(0, from); at < Math.min(to, values.length); at++) sum += values[at] as number;
    return sum / (to - from);
  };
  const end = Math.floor(ms / windowMs) * windowMs;
  const percent = Math.round(100 * mean(gpu.busy, end - windowMs, end));
  const watts = (over: number): string => (floorWatts + mean(gpu.watts, ms - over, ms)).toFixed(2);
  return [uuid, percent, 3, 40_000, watts(1000), watts(25), watts(1000), 50, 49].join(", ");
}

/** Whether the tool comes to a round: of a hung driver it does not, and now and then it is too late for one. */
function comesTo({ missed }: World, random: Random, ms: number): boolean {
  if (missed === undefined || ms < 0) return true;
  const { everyMs, ms: silentMs } = missed.silence;
  return random.next() >= missed.share && ms % everyMs < everyMs - silentMs;
}

function main([file = "", ...query]: readonly string[]): void {
  const world = JSON.parse(readFileSync(file, "utf8")) as World;
  const { gpus } = simulate(world.host);
  const everyMs = Number(query[query.indexOf("-lms") + 1]);
  const random = new Random(1);
  let begun: bigint | undefined;
  setInterval(() => {
    if (begun === undefined && existsSync(world.beginFile))
      begun = BigInt(readFileSync(world.beginFile, "utf8"));
    const ms = begun === undefined ? -1 : Math.floor(Number(process.hrtime.bigint() - begun) / 1e6);
    if (!comesTo(world, random, ms)) return;
    const rows = gpus.map((gpu, index) =>
      rowOf(world.uuids[index] as string, gpu, world.host.gpus[index]?.floorWatts ?? 0, ms),
    );
    process.stdout.write(`${rows.join("\n")}\n`);
  }, everyMs);
}

main(process.argv.slice(2));
