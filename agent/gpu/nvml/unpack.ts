// Turns a reading of the reader child into a GpuSample on the agent's clock.
import type { GpuProcess, GpuSample, Nanos, ProcessShare, Ring } from "../../model.ts";
import type { ProcessTable, Reading } from "./protocol.ts";

/** `instant` maps the child's clock; `lists` keeps each GPU's processes for readings that say "same". */
export function unpack(
  reading: Reading,
  instant: (childNanos: number) => Nanos,
  lists: Map<string, readonly GpuProcess[]>,
): GpuSample {
  const { utilizationRing, powerRing, processShares, processes, ...scalars } = reading;
  if (processes !== undefined && processes !== "same") lists.set(reading.gpu, unpackProcesses(processes));
  const list = processes === undefined ? undefined : lists.get(reading.gpu);
  return {
    ...scalars,
    at: instant(reading.at),
    ...(utilizationRing === undefined ? {} : { utilizationRing: unpackRing(utilizationRing, instant) }),
    ...(powerRing === undefined ? {} : { powerRing: unpackRing(powerRing, instant) }),
    ...(processShares === undefined ? {} : { processShares: unpackShares(processShares, instant) }),
    ...(list === undefined ? {} : { processes: list }),
  };
}

function unpackRing(points: Float64Array, instant: (childNanos: number) => Nanos): Ring {
  const size = points.length >>> 1;
  // As long as they will be: a list that grows has room for half as many again, and a ring is kept for seconds.
  const [instants, values] = [numbers(size), numbers(size)];
  for (let place = 0; place < size; place++) {
    instants[place] = instant(points[2 * place] as number);
    values[place] = points[2 * place + 1] as number;
  }
  return { instants, values };
}

/** What lists of numbers that are to be written over are cut from. */
let blank: readonly number[] = Array.from({ length: 64 }, () => 0.5);

function numbers(size: number): number[] {
  if (size > blank.length) blank = Array.from({ length: 2 * size }, () => 0.5);
  return blank.slice(0, size);
}

function unpackShares(shares: Float64Array, instant: (childNanos: number) => Nanos): readonly ProcessShare[] {
  return Array.from({ length: shares.length / 3 }, (_, index) => ({
    pid: shares[index * 3] ?? 0,
    at: instant(shares[index * 3 + 1] ?? Number.NaN),
    smRatio: shares[index * 3 + 2] ?? Number.NaN,
  }));
}

function unpackProcesses(table: ProcessTable): readonly GpuProcess[] {
  return Array.from(table.pids, (pid, index) => {
    const memoryBytes = table.memory[index];
    const name = table.names[index];
    return {
      pid,
      type: table.mps[index] === 1 ? ("mps" as const) : ("compute" as const),
      ...(memoryBytes === undefined || Number.isNaN(memoryBytes) ? {} : { memoryBytes }),
      ...(name === undefined || name === "" ? {} : { name }),
    };
  });
}
