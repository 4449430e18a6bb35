// Inventory for the nvidia-smi backend: node-nvidia-smi in a child of its own, else `--query-gpu`, then `-L` for MIG.
import { delimiter, dirname, isAbsolute } from "node:path";
import { fileURLToPath } from "node:url";
import type { GpuInfo } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ended, Slot } from "../../platform/process.ts";
import { askModule, run } from "../../platform/process.ts";
import { failureOf, unknownField } from "./failures.ts";
import { INVENTORY_FIELDS, parseInventoryLine } from "./fields.ts";
import { withListing } from "./inventory-xml.ts";

const TIMEOUT_MS = 5000;
const BYTES_MAX = 4 * 2 ** 20;

/** The GPUs as the tool lists them, and where that came from. Throws SourceError when it lists none. */
export async function readInventory(
  clock: Clock,
  program: string,
  slot: Slot,
): Promise<{ readonly gpus: readonly GpuInfo[]; readonly from: string }> {
  const parsed = await fromModule(clock, program);
  const boards = parsed.length > 0 ? parsed : await fromQuery(clock, program, slot);
  const listing = await tool(clock, program, ["-L"], slot);
  const gpus = withListing(`${listing.stdout}\n${listing.stderr}`, boards);
  return { gpus, from: parsed.length > 0 ? "node-nvidia-smi" : "--query-gpu" };
}

/** Runs the tool once, bounded in time and output. */
export function tool(clock: Clock, program: string, options: readonly string[], slot: Slot): Promise<Ended> {
  return run(clock, { program, arguments: options }, { timeoutMs: TIMEOUT_MS, bytesMax: BYTES_MAX }, slot);
}

async function fromModule(clock: Clock, program: string): Promise<readonly GpuInfo[]> {
  // The package finds the tool by PATH only.
  const path = isAbsolute(program)
    ? { PATH: `${dirname(program)}${delimiter}${process.env["PATH"] ?? ""}` }
    : {};
  const module = fileURLToPath(new URL("./child/main.ts", import.meta.url));
  const answer = (await askModule(clock, module, TIMEOUT_MS, path)) as
    | { gpus?: readonly GpuInfo[] }
    | undefined;
  return answer?.gpus ?? [];
}

async function fromQuery(clock: Clock, program: string, slot: Slot): Promise<readonly GpuInfo[]> {
  let fields: readonly string[] = INVENTORY_FIELDS;
  for (;;) {
    const query = [`--query-gpu=${fields.join(",")}`, "--format=csv,noheader,nounits"];
    const ended = await tool(clock, program, query, slot);
    const refused = unknownField(`${ended.stdout}\n${ended.stderr}`);
    if (refused !== undefined && fields.includes(refused) && refused !== "uuid") {
      fields = fields.filter((field) => field !== refused);
      continue;
    }
    const gpus = ended.stdout.split("\n").flatMap((line) => parseInventoryLine(fields, line) ?? []);
    if (gpus.length > 0) return gpus;
    throw failureOf(program, `${ended.stdout}\n${ended.stderr}\n${ended.problem ?? ""}`.trim(), ended.cause);
  }
}
