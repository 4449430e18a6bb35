// GPUs and MIG instances out of `nvidia-smi -q -x` as node-nvidia-smi hands it over: every value is text, one GPU is an
// object and several are an array. Elements were renamed across drivers, so each is looked up by a list of paths.
import type { GpuInfo } from "../../model.ts";
import { isUnread, samePlace, unreadGpu } from "../known-boards.ts";
import { sharesOf } from "../mig-weight.ts";
import { parseText, parseValue, quoted } from "./values.ts";

const MIB = 2 ** 20;

type Element = Readonly<Record<string, unknown>>;

/** The GPUs of a parsed `-q -x` document; empty when it holds none. Values it does not know are left out. */
export function inventoryOf(document: unknown): readonly GpuInfo[] {
  const log = element(element(document)["nvidia_smi_log"]);
  const driverVersion = text(log, ["driver_version"]);
  return list(log["gpu"]).flatMap((gpu, index) => {
    const uuid = text(gpu, ["uuid"]);
    const bus = text(gpu, ["pci.pci_bus_id"]) ?? attribute(gpu, "id");
    if (uuid?.startsWith("GPU-") !== true) {
      const said = raw(gpu, ["uuid"]) ?? "nothing";
      return bus === undefined
        ? []
        : [unreadGpu(bus, `GPU ${bus}: nvidia-smi says ${quoted(said)} in place of its UUID`)];
    }
    const memoryTotalBytes = number(gpu, ["fb_memory_usage.total"], MIB);
    const powerLimitWatts = number(gpu, LIMITS, 1);
    const architecture = text(gpu, ["product_architecture"])?.toLowerCase();
    const info: GpuInfo = {
      uuid,
      index,
      name: text(gpu, ["product_name"]) ?? "unknown",
      weight: 1,
      ...(bus === undefined ? {} : { pciBusId: bus }),
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

/**
 * What `nvidia-smi -L` adds to the boards found: their indexes, MIG instances, whose lines follow the line of their
 * board, and GPUs it counts but cannot name.
 */
export function withListing(listing: string, boards: readonly GpuInfo[]): readonly GpuInfo[] {
  const unread: GpuInfo[] = [];
  const found = new Map<string, { board: GpuInfo; instances: Instance[] }>();
  let current: { board: GpuInfo; instances: Instance[] } | undefined;
  for (const line of listing.split("\n")) {
    const gpu = /^GPU (\d+): (.*)\(UUID: ([^)]+)\)/.exec(line);
    const lost = /Unable to determine the device handle for gpu\s*:?\s*([0-9a-f:.]*[0-9a-f]):?\s*(.*)$/i.exec(
      line,
    );
    const mig = /^\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)/.exec(line);
    if (gpu !== null) {
      const [, index = "0", name = "", uuid = ""] = gpu;
      // A GPU that is counted here and listed nowhere else is a GPU all the same.
      const board = boards.find((known) => known.uuid === uuid) ?? { uuid, name: name.trim(), weight: 1 };
      current = uuid.startsWith("GPU-")
        ? { board: { ...board, index: Number(index) }, instances: [] }
        : undefined;
      if (current !== undefined) found.set(uuid, current);
      else
        unread.push(
          unreadGpu(Number(index), `GPU ${index}: nvidia-smi says ${quoted(uuid)} in place of its UUID`),
        );
    } else if (lost !== null)
      unread.push(unreadGpu(lost[1] ?? "", `GPU ${lost[1]}: ${lost[2] || "cannot be opened"}`));
    else if (mig !== null)
      current?.instances.push({ migProfile: mig[1] ?? "", index: Number(mig[2]), uuid: mig[3] ?? "" });
  }
  const others = boards.filter(({ uuid }) => !found.has(uuid));
  const all = [
    ...[...found.values()].flatMap(({ board, instances }) => withInstances(board, instances)),
    ...others,
  ];
  return [...all, ...beyond(all, unread)];
}

/** Of the GPUs a listing cannot name those that are not among `all` already, under their index or their bus. */
function beyond(all: readonly GpuInfo[], unread: readonly GpuInfo[]): readonly GpuInfo[] {
  const strangers = unread.filter((one) => !all.some((known) => samePlace(one, known)));
  // One that the query knows by its index only and the listing by its bus is one GPU, not two.
  const unmatched = all.filter((known) => isUnread(known) && !unread.some((one) => samePlace(one, known)));
  return strangers.slice(unmatched.length);
}

interface Instance {
  readonly uuid: string;
  readonly index: number;
  readonly migProfile: string;
}

function withInstances(board: GpuInfo, instances: readonly Instance[]): readonly GpuInfo[] {
  const shares = sharesOf(board, instances);
  if ("unknown" in shares)
    return [{ ...board, unsupported: { ...board.unsupported, mig_weight: shares.unknown } }];
  return [
    board,
    ...shares.instances.map((instance) => ({
      ...instance,
      parent: board.uuid,
      name: board.name,
      ...(board.driverVersion === undefined ? {} : { driverVersion: board.driverVersion }),
    })),
  ];
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
