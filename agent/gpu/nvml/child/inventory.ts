// Which GPUs and MIG instances there are, and what is fixed about them.
// Index order may change between boots, so everything is keyed by UUID. One index that answers with an error does not
// hide the others. MIG: an instance is a GPU of its own with its parent and its share of the slices.
import type { GpuInfo } from "../../../model.ts";
import { migWeight, profileName } from "../../mig-weight.ts";
import { CODE, codeHint, codeName, meaning } from "../codes.ts";
import type { Unreadable } from "../protocol.ts";
import { Device, NvmlFailure } from "./device.ts";
import { ATTRIBUTES, Cell, NAME_BYTES, PCI, UUID_BYTES, VERSION_BYTES, WORD } from "./layouts.ts";
import type { Nvml, NvmlCall } from "./library.ts";
import type { MemoryReader } from "./memory.ts";
import { readPowerLimit } from "./power.ts";

const GPUS_MAX = 256;
const ARCHITECTURES: Readonly<Record<number, string>> = {
  2: "kepler",
  3: "maxwell",
  4: "pascal",
  5: "volta",
  6: "turing",
  7: "ampere",
  8: "ada",
  9: "hopper",
  10: "blackwell",
};

/** A device with what inventory says about it. */
export interface Found {
  readonly device: Device;
  readonly info: GpuInfo;
  /** Whether nvmlDeviceGetPowerUsage is a 1 s mean here (Ampere and newer, not GA100). */
  readonly meanPower: boolean;
  /** A board whose instances are listed beside it: it has energy, power and sensors, no residents of its own. */
  readonly migEnabled: boolean;
}

/** The devices found and the indexes that answered with an error. */
export interface Enumeration {
  readonly found: readonly Found[];
  readonly unreadable: readonly Unreadable[];
}

/** Which indexes to look at, and a call before each, as a driver call may hang. */
export interface IndexRules {
  readonly wanted: (index: number) => boolean;
  readonly begin: (index: number) => void;
}

/**
 * Enumerates all devices; a device in `known` that kept its handle is kept. Throws NvmlFailure when not even their
 * number can be read.
 */
export function enumerate(
  nvml: Nvml,
  memory: MemoryReader,
  driverVersion: string | undefined,
  known: ReadonlyMap<string, Device>,
  rules: IndexRules,
): Enumeration {
  const count = Math.min(number32(nvml, "nvmlDeviceGetCount_v2"), GPUS_MAX);
  const found: Found[] = [];
  const unreadable: Unreadable[] = [];
  for (let index = 0; index < count; index++) {
    if (!rules.wanted(index)) {
      unreadable.push({ index, failure: { message: "hangs when it is opened" }, hangs: true });
      continue;
    }
    rules.begin(index);
    try {
      found.push(...board(nvml, memory, index, driverVersion, known));
    } catch (error) {
      if (!(error instanceof NvmlFailure)) throw error;
      unreadable.push({ index, failure: error.failure });
    }
  }
  return { found, unreadable };
}

/** Version strings of driver and library; undefined where the library does not say. */
export function versions(nvml: Nvml): { driver: string | undefined; nvml: string | undefined } {
  const ask = (symbol: NvmlCall): string | undefined => {
    const cell = new Cell(VERSION_BYTES);
    return nvml.call(symbol, cell, VERSION_BYTES) === CODE.success ? cell.text(0, VERSION_BYTES) : undefined;
  };
  return { driver: ask("nvmlSystemGetDriverVersion"), nvml: ask("nvmlSystemGetNVMLVersion") };
}

function board(
  nvml: Nvml,
  memory: MemoryReader,
  index: number,
  driverVersion: string | undefined,
  known: ReadonlyMap<string, Device>,
): readonly Found[] {
  const handle = handleOf(nvml, "nvmlDeviceGetHandleByIndex_v2", index);
  const device = kept(known, { handle, uuid: uuidOf(nvml, handle), index });
  const architecture = architectureOf(nvml, device);
  const name = textOf(nvml, device.handle, "nvmlDeviceGetName", NAME_BYTES) ?? "unknown";
  const limit = readPowerLimit(nvml, device);
  const base = {
    name,
    ...optional("pciBusId", busIdOf(nvml, device)),
    ...optional("driverVersion", driverVersion),
    ...optional("architecture", architecture),
  };
  const instances = migInstances(nvml, memory, device, base, known);
  const info: GpuInfo = {
    ...base,
    uuid: device.uuid,
    index,
    weight: 1,
    ...optional("memoryTotalBytes", memory.measure(nvml, device)?.totalBytes),
    ...optional("powerLimitWatts", limit),
  };
  notePersistence(nvml, device);
  const meanPower = isMeanPower(nvml, device, architecture);
  // A board whose instances cannot be weighed is metered as one GPU, with the processes of all of them.
  const sliced = migEnabled(nvml, device) && !device.unsupported.has(MIG_WEIGHT);
  return [{ device, info, meanPower, migEnabled: sliced }, ...instances];
}

function kept(known: ReadonlyMap<string, Device>, identity: ConstructorParameters<typeof Device>[0]): Device {
  const before = known.get(identity.uuid);
  const same =
    before !== undefined &&
    before.handle === identity.handle &&
    before.index === identity.index &&
    before.parent === identity.parent &&
    before.gpuInstance === identity.gpuInstance;
  return same ? before : new Device(identity);
}

function isMeanPower(nvml: Nvml, device: Device, architecture: string | undefined): boolean {
  const major = new Cell(WORD).fresh();
  const minor = new Cell(WORD).fresh();
  const code = nvml.call("nvmlDeviceGetCudaComputeCapability", device.handle, major, minor);
  if (code === CODE.success) return major.u32() > 8 || (major.u32() === 8 && minor.u32() > 0);
  return architecture === "ada" || architecture === "hopper" || architecture === "blackwell";
}

function notePersistence(nvml: Nvml, device: Device): void {
  const cell = new Cell(WORD).fresh();
  const code = nvml.call("nvmlDeviceGetPersistenceMode", device.handle, cell);
  if (code === CODE.success && cell.u32() === 0) {
    device.refuse("persistence_mode", "off: the first call after idle is slow; run nvidia-persistenced");
  }
}

// ---------------------------------------------------------------------------------------------- MIG

/** Whether MIG is on now; a GPU that cannot answers no. */
function migEnabled(nvml: Nvml, device: Device): boolean {
  const current = new Cell(WORD);
  const pending = new Cell(WORD);
  const code = nvml.call("nvmlDeviceGetMigMode", device.handle, current, pending);
  return code === CODE.success && current.u32() === 1;
}

/** The UUIDs of the instances now, in slot order: differs from before when the topology changed. */
export function migFingerprint(nvml: Nvml, device: Device): string {
  if (!migEnabled(nvml, device)) return "";
  return migHandles(nvml, device)
    .map((handle) => {
      try {
        return uuidOf(nvml, handle);
      } catch {
        return "?";
      }
    })
    .join(",");
}

function migHandles(nvml: Nvml, device: Device): number[] {
  const cell = new Cell(WORD);
  const handles: number[] = [];
  for (let slot = 0; slot < migSlots(nvml, device); slot++) {
    // NOT_FOUND and INVALID_ARGUMENT are empty slots: keep looking.
    const code = nvml.call("nvmlDeviceGetMigDeviceHandleByIndex", device.handle, slot, cell);
    if (code === CODE.success) handles.push(cell.handle());
    else if (meaning(code) === "lost" || meaning(code) === "lifecycle") {
      throw new NvmlFailure("nvmlDeviceGetMigDeviceHandleByIndex", code);
    }
  }
  return handles;
}

/** Instances the board can hold, which is also the slices of its full profile: 7, 4 on A30. */
function migSlots(nvml: Nvml, device: Device): number {
  const cell = new Cell(WORD).fresh();
  const code = nvml.call("nvmlDeviceGetMaxMigDeviceCount", device.handle, cell);
  return code === CODE.success && cell.u32() > 0 && cell.u32() <= 64 ? cell.u32() : 7;
}

interface Instance {
  readonly handle: number;
  readonly gpuInstance: number;
  readonly migProfile: string | undefined;
  /** Undefined where the driver does not say. */
  readonly gpuSlices: number | undefined;
  readonly computeSlices: number | undefined;
}

/** What a board is said to lack whose instances have no known share. */
const MIG_WEIGHT = "mig_weight";

function migInstances(
  nvml: Nvml,
  memory: MemoryReader,
  parent: Device,
  base: Pick<GpuInfo, "name">,
  known: ReadonlyMap<string, Device>,
): readonly Found[] {
  if (!migEnabled(nvml, parent)) return [];
  const slices = migSlots(nvml, parent);
  const instances = migHandles(nvml, parent).map((handle) => instanceOf(nvml, handle));
  const weights = instances.map((instance) => weightOf(instance, instances, slices, base));
  const unknown = weights.indexOf(undefined);
  if (unknown !== -1) {
    const profile = instances[unknown]?.migProfile ?? "no profile";
    parent.refuse(
      MIG_WEIGHT,
      `the share of MIG instance ${unknown} (${profile}) is not known: the board is metered as one GPU`,
    );
    return [];
  }
  parent.unsupported.delete(MIG_WEIGHT);
  return instances.map((instance, slot) => {
    const { handle, gpuInstance, migProfile } = instance;
    const device = kept(known, { handle, uuid: uuidOf(nvml, handle), index: slot, parent, gpuInstance });
    const info: GpuInfo = {
      ...base,
      uuid: device.uuid,
      parent: parent.uuid,
      index: slot,
      weight: weights[slot] ?? 1,
      ...optional("memoryTotalBytes", memory.measure(nvml, device)?.totalBytes),
      ...optional("migProfile", migProfile),
    };
    return { device, info, meanPower: false, migEnabled: false };
  });
}

function instanceOf(nvml: Nvml, handle: number): Instance {
  const cell = new Cell(ATTRIBUTES.size).fresh();
  const known = nvml.call("nvmlDeviceGetAttributes_v2", handle, cell) === CODE.success;
  const sane = (value: number): number | undefined =>
    known && value >= 1 && value <= 64 ? value : undefined;
  const gpuSlices = sane(cell.u32(ATTRIBUTES.giSlices));
  const computeSlices = sane(cell.u32(ATTRIBUTES.ciSlices));
  const code = nvml.call("nvmlDeviceGetGpuInstanceId", handle, cell.fresh());
  const gpuInstance = code === CODE.success ? cell.u32() : -1;
  const name = textOf(nvml, handle, "nvmlDeviceGetName", NAME_BYTES);
  const migProfile = profileName(/\bMIG (\S+)/.exec(name ?? "")?.[1]);
  return { handle, gpuInstance, migProfile, gpuSlices, computeSlices };
}

/**
 * GPU-instance slices over the full profile's; compute instances that share one divide it by their own slices. By the
 * profile's name where the driver does not say; undefined where that does not either.
 */
function weightOf(
  { computeSlices, gpuInstance, gpuSlices, migProfile }: Instance,
  all: readonly Instance[],
  slices: number,
  board: Pick<GpuInfo, "name">,
): number | undefined {
  if (gpuSlices === undefined || computeSlices === undefined) return migWeight(migProfile, board);
  const shared = all.filter((other) => other.gpuInstance === gpuInstance);
  const total = shared.reduce((sum, other) => sum + (other.computeSlices ?? 0), 0);
  const part = shared.length === 1 ? 1 : computeSlices / total;
  return Math.min(1, (gpuSlices / slices) * part);
}

// ---------------------------------------------------------------------------------------------- single questions

function number32(nvml: Nvml, symbol: NvmlCall): number {
  const cell = new Cell(WORD);
  const code = nvml.call(symbol, cell);
  if (code !== CODE.success) throw new NvmlFailure(symbol, code);
  return cell.u32();
}

function handleOf(nvml: Nvml, symbol: NvmlCall, index: number): number {
  const cell = new Cell(WORD);
  const code = nvml.call(symbol, index, cell);
  if (code !== CODE.success) throw new NvmlFailure(symbol, code);
  return cell.handle();
}

function uuidOf(nvml: Nvml, handle: number): string {
  const cell = new Cell(UUID_BYTES);
  const code = nvml.call("nvmlDeviceGetUUID", handle, cell, UUID_BYTES);
  if (code !== CODE.success) throw new NvmlFailure("nvmlDeviceGetUUID", code);
  return cell.text(0, UUID_BYTES);
}

function textOf(nvml: Nvml, handle: number, symbol: NvmlCall, size: number): string | undefined {
  const cell = new Cell(size);
  const code = nvml.call(symbol, handle, cell, size);
  return code === CODE.success ? cell.text(0, size) : undefined;
}

function busIdOf(nvml: Nvml, device: Device): string | undefined {
  // Older calls leave the long form unwritten and know the short one only.
  const cell = new Cell(PCI.size);
  if (nvml.call("nvmlDeviceGetPciInfo_v3", device.handle, cell) !== CODE.success) return undefined;
  return cell.text(PCI.busId, PCI.busIdBytes) || cell.text(PCI.shortBusId, PCI.shortBusIdBytes) || undefined;
}

function architectureOf(nvml: Nvml, device: Device): string | undefined {
  const cell = new Cell(WORD);
  const code = nvml.call("nvmlDeviceGetArchitecture", device.handle, cell);
  if (code === CODE.success) return ARCHITECTURES[cell.u32()];
  device.refuse(
    "architecture",
    `nvmlDeviceGetArchitecture: ${codeName(code)}; ${codeHint(code) ?? "old driver"}`,
  );
  return undefined;
}

function optional<Key extends string, Value>(key: Key, value: Value | undefined): { [K in Key]?: Value } {
  return (value === undefined ? {} : { [key]: value }) as { [K in Key]?: Value };
}
