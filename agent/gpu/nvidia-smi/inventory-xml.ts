// GPUs and MIG instances out of `nvidia-smi -q -x` as node-nvidia-smi hands it over: every value is text, one GPU is an
// object and several are an array. Elements were renamed across drivers, so each is looked up by a list of paths.
import type { GpuInfo } from "../../model.ts";
import { parseText, parseValue } from "./values.ts";

const MIB = 2 ** 20;
const WEIGHT_A30 = 4;
const WEIGHT_FULL = 7;

type Element = Readonly<Record<string, unknown>>;

/** The GPUs of a parsed `-q -x` document; empty when it holds none. Values it does not know are left out. */
export function inventoryOf(document: unknown): readonly GpuInfo[] {
  const log = element(element(document)["nvidia_smi_log"]);
  const driverVersion = text(log, ["driver_version"]);
  return list(log["gpu"]).flatMap((gpu, index) => {
    const uuid = text(gpu, ["uuid"]);
    if (uuid?.startsWith("GPU-") !== true) return [];
    const memoryTotalBytes = number(gpu, ["fb_memory_usage.total"], MIB);
    const powerLimitWatts = number(gpu, LIMITS, 1);
    const architecture = text(gpu, ["product_architecture"])?.toLowerCase();
    const pciBusId = text(gpu, ["pci.pci_bus_id"]) ?? attribute(gpu, "id");
    const info: GpuInfo = {
      uuid,
      index,
      name: text(gpu, ["product_name"]) ?? "unknown",
      weight: 1,
      ...(pciBusId === undefined ? {} : { pciBusId }),
      ...(driverVersion === undefined ? {} : { driverVersion }),
      ...(architecture === undefined ? {} : { architecture }),
      ...(memoryTotalBytes === undefined ? {} : { memoryTotalBytes }),
      ...(powerLimitWatts === undefined ? {} : { powerLimitWatts }),
    };
    return [info];
  });
}

const LIMITS = [
  "gpu_power_readings.current_power_limit",
  "gpu_power_readings.enforced_power_limit",
  "power_readings.enforced_power_limit",
  "power_readings.current_power_limit",
  "power_readings.power_limit",
];

/** MIG instances of `nvidia-smi -L`, whose lines follow the line of their board. */
export function migInstances(listing: string, boards: readonly GpuInfo[]): readonly GpuInfo[] {
  const instances: GpuInfo[] = [];
  let board: GpuInfo | undefined;
  for (const line of listing.split("\n")) {
    const gpu = /^GPU (\d+): .*\(UUID: (GPU-[^)]+)\)/.exec(line);
    if (gpu !== null) board = boards.find(({ uuid }) => uuid === gpu[2]);
    const mig = /^\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)/.exec(line);
    if (mig === null || board === undefined) continue;
    const [, profile = "", index = "0", uuid = ""] = mig;
    instances.push({
      uuid,
      parent: board.uuid,
      index: Number(index),
      name: board.name,
      weight: weightOf(profile, board.name),
      migProfile: profile,
      ...(board.driverVersion === undefined ? {} : { driverVersion: board.driverVersion }),
    });
  }
  return instances;
}

/** `3g.40gb` holds 3 slices, `1c.3g.40gb` one compute slice of three. */
function weightOf(profile: string, product: string): number {
  const slices = /^(?:(\d+)c\.)?(\d+)g\./.exec(profile);
  const part = Number(slices?.[1] ?? slices?.[2] ?? 1);
  return Math.min(1, part / (/\bA30\b/.test(product) ? WEIGHT_A30 : WEIGHT_FULL));
}

function element(value: unknown): Element {
  return typeof value === "object" && value !== null ? (value as Element) : {};
}

function list(value: unknown): readonly Element[] {
  if (value === undefined) return [];
  return (Array.isArray(value) ? value : [value]).map(element);
}

function raw(from: Element, paths: readonly string[]): string | undefined {
  for (const path of paths) {
    let node: unknown = from;
    for (const part of path.split(".")) node = element(node)[part];
    if (typeof node === "string") return node;
  }
  return undefined;
}

function text(from: Element, paths: readonly string[]): string | undefined {
  const value = raw(from, paths);
  return value === undefined ? undefined : parseText(value);
}

function number(from: Element, paths: readonly string[], scale: number): number | undefined {
  const value = raw(from, paths);
  const parsed = value === undefined ? undefined : parseValue(value);
  return parsed !== undefined && "value" in parsed && parsed.value >= 0 ? parsed.value * scale : undefined;
}

function attribute(from: Element, name: string): string | undefined {
  const value = element(from["$"])[name];
  return typeof value === "string" ? value : undefined;
}
