// Compute processes from `--query-compute-apps`, asked every few seconds by a run of its own: a resident query prints
// nothing for an idle GPU, so its rounds could not be told apart.

import type { GpuProcess } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Slot } from "../../platform/process.ts";
import { isFailure } from "./failures.ts";
import { tool } from "./inventory.ts";
import { parseValue, splitCells } from "./values.ts";

const MIB = 2 ** 20;
const FIELDS = ["gpu_uuid", "pid", "used_gpu_memory", "process_name"];

/** Processes by GPU; a GPU not in it has none. Undefined when the tool did not answer. */
export type ProcessLists = ReadonlyMap<string, readonly GpuProcess[]>;

/** Asks once. Under MIG the GPU named is the board. */
export async function readApps(clock: Clock, program: string, slot: Slot): Promise<ProcessLists | undefined> {
  const query = [`--query-compute-apps=${FIELDS.join(",")}`, "--format=csv,noheader,nounits"];
  const ended = await tool(clock, program, query, slot);
  if (ended.problem !== undefined || ended.code !== 0) return undefined;
  const lines = ended.stdout.split("\n").filter((line) => line.trim() !== "");
  return lines.some((line) => isFailure(line)) ? undefined : parseApps(lines);
}

/** Rows `uuid, pid, MiB, name`; the name may hold commas. Other lines are left out. */
export function parseApps(lines: readonly string[]): ProcessLists {
  const lists = new Map<string, GpuProcess[]>();
  for (const line of lines) {
    const [uuid = "", pidText = "", memory = "", path = ""] = splitCells(line, FIELDS.length) ?? [];
    const pid = Number(pidText);
    if (!/^(GPU|MIG)-/.test(uuid) || !Number.isSafeInteger(pid) || pid <= 0) continue;
    const name = path.split("/").at(-1) ?? "";
    if (name.startsWith("nvidia-cuda-mps")) continue;
    const used = parseValue(memory);
    const list = lists.get(uuid) ?? [];
    lists.set(uuid, list);
    list.push({
      pid,
      type: "compute",
      ...("value" in used && used.value >= 0 ? { memoryBytes: used.value * MIB } : {}),
      ...(name === "" || name.startsWith("[") ? {} : { name }),
    });
  }
  return lists;
}
