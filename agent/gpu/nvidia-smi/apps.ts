// Compute processes from `--query-compute-apps`, asked every few seconds by a run of its own: a resident query prints
// nothing for an idle GPU, so its rounds could not be kept apart. A GPU without a row has no process only where every row
// could be read: a row that names no GPU or no process may be of any.

import type { GpuProcess } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Slot } from "../../platform/process.ts";
import { tool } from "./inventory.ts";
import { parseValue, splitCells } from "./values.ts";

const MIB = 2 ** 20;
const FIELDS = ["gpu_uuid", "pid", "used_gpu_memory", "process_name"];

/** One answer of the tool. */
export interface ProcessLists {
  /** Processes by GPU. */
  readonly lists: ReadonlyMap<string, readonly GpuProcess[]>;
  /** GPUs with a process that could not be identified. */
  readonly unknown: ReadonlySet<string>;
  /** Whether a GPU that is not in `lists` has no process. */
  readonly complete: boolean;
}

/** The processes of a GPU by that answer; undefined where it does not say. */
export function processesOf(
  { complete, lists, unknown }: ProcessLists,
  gpu: string,
): readonly GpuProcess[] | undefined {
  if (unknown.has(gpu)) return undefined;
  return lists.get(gpu) ?? (complete ? [] : undefined);
}

/** Asks once; undefined when the tool did not answer. Under MIG the GPU named is the board. */
export async function readApps(clock: Clock, program: string, slot: Slot): Promise<ProcessLists | undefined> {
  const query = [`--query-compute-apps=${FIELDS.join(",")}`, "--format=csv,noheader,nounits"];
  const ended = await tool(clock, program, query, slot);
  if (ended.problem !== undefined) return undefined;
  const parsed = parseApps(ended.stdout.split("\n"));
  return ended.code === 0 || parsed.lists.size > 0 ? parsed : undefined;
}

/**
 * Rows `uuid, pid, MiB, name`; the name may hold commas.
 * Exported for its test: texts of every tool and version.
 */
export function parseApps(lines: readonly string[]): ProcessLists {
  const lists = new Map<string, GpuProcess[]>();
  const unknown = new Set<string>();
  let complete = true;
  for (const line of lines) {
    if (line.trim() === "") continue;
    const [uuid = "", pidText = "", memory = "", path = ""] = splitCells(line, FIELDS.length) ?? [];
    const pid = Number(pidText);
    if (!/^(GPU|MIG)-/.test(uuid)) {
      complete = false;
      continue;
    }
    if (!Number.isSafeInteger(pid) || pid <= 0) {
      unknown.add(uuid);
      continue;
    }
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
  return { lists, unknown, complete };
}
