// Byte layouts of the NVML structs we read, little-endian x86_64 and aarch64, natural alignment.
// Sizes and offsets are those of nvml.h 11.8 to 13.5 (PyPI nvidia-nvml-dev), which test/e2e compiles; we decode with
// DataView instead of marshalling structs, so the hot path allocates nothing. A versioned struct carries
// size | version << 24 in its first word, exceptions are marked plain. A struct grows without notice: every buffer has
// room behind it that shows a driver writing past the struct we know.

/** Room for one opaque handle or 64-bit value. */
export const WORD = 8;
/** Room for text, as nvml.h names it for each call. */
export const UUID_BYTES = 96;
/** See UUID_BYTES. */
export const NAME_BYTES = 96;
/** See UUID_BYTES. */
export const VERSION_BYTES = 80;

/** nvmlUtilization_t, percent. */
export const UTILIZATION = { size: 8, gpu: 0, memory: 4 } as const;
/** nvmlMemory_t. */
export const MEMORY = { size: 24, total: 0, free: 8, used: 16 } as const;
/** nvmlMemory_v2_t: `used` leaves the reserve out. */
export const MEMORY_V2 = {
  size: 40,
  version: 0x02000028,
  total: 8,
  reserved: 16,
  free: 24,
  used: 32,
} as const;
/** nvmlPciInfo_t. */
export const PCI = { size: 68, shortBusId: 0, shortBusIdBytes: 16, busId: 36, busIdBytes: 32 } as const;
/**
 * nvmlProcessInfo_t. Rows are 16 bytes behind the first call, 24 behind _v2 and _v3, and 32 behind _v3 of drivers
 * 535.54.03 to 535.98 (go-nvml#75, pynvml#48), which add a 64-bit word. `written` is the end of the last field that each
 * kind of row is known to fill.
 */
export const PROCESS = {
  size: 24,
  sizeMax: 32,
  pid: 0,
  memory: 8,
  gpuInstance: 16,
  computeInstance: 20,
  rows: [
    { size: 24, written: 24 },
    { size: 32, written: 24 },
    { size: 16, written: 16 },
  ],
} as const;
/** nvmlProcessUtilizationSample_t. */
export const PROCESS_SAMPLE = { size: 32, pid: 0, at: 8, sm: 16 } as const;
/** nvmlSample_t. */
export const SAMPLE = { size: 16, at: 0, value: 8 } as const;
/** nvmlFieldValue_t. */
export const FIELD = { size: 40, id: 0, scope: 4, valueType: 24, code: 28, value: 32 } as const;
/** nvmlEventData_t. */
export const EVENT = { size: 32, device: 0, type: 8, data: 16, gpuInstance: 24 } as const;
/** One entry of nvmlGpmMetricsGet_t. */
export const GPM_METRIC = { size: 40, id: 0, code: 4, value: 8 } as const;
/** nvmlGpmMetricsGet_t; `version` is plain 1. 19104 bytes in header 13.5, 3944 in 11.8: room for what comes next. */
export const GPM_GET = { size: 32768, version: 1, count: 4, sample1: 8, sample2: 16, metrics: 24 } as const;
/** `version` is plain 1: a size-encoded version makes the call always fail (go-nvml 168). */
export const GPM_SUPPORT = { size: 8, version: 1, supported: 4 } as const;
/** nvmlDeviceAttributes_t. */
export const ATTRIBUTES = { size: 40, smCount: 0, giSlices: 24, ciSlices: 28, memoryMib: 32 } as const;

/** Field ids of nvmlDeviceGetFieldValues, with the scope that goes with them (0 = GPU). */
export const FIELD_ID = {
  memoryTemperature: 82,
  powerAverage: 185,
  powerInstant: 186,
  nvlinkTransmitKib: 138,
  nvlinkReceiveKib: 139,
  pcieTransmitBytes: 197,
  pcieReceiveBytes: 198,
  violationPower: 74,
  violationThermal: 75,
  violationSync: 76,
  violationBoard: 77,
  violationLowUtilization: 78,
  violationReliability: 79,
} as const;

/** nvmlSamplingType_t. */
export const RING = { power: 0, utilization: 1 } as const;

/**
 * Bytes behind every buffer that no call may touch; drivers have grown a struct by 8 to 16 bytes at a time.
 * Exported for its test: the fake library writes up to it.
 */
export const GUARD_BYTES = 256;
const GUARD = 0xa5;

/**
 * A buffer with its view. `fresh()` fills it with 0xff, so that what the driver did not write is recognised; behind it
 * lies room in which a driver that writes past the struct does no harm and is found out.
 */
export class Cell {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #guard: Buffer;

  constructor(size: number) {
    const memory = new Uint8Array(size + GUARD_BYTES);
    this.bytes = memory.subarray(0, size);
    this.view = new DataView(memory.buffer, 0, size);
    this.#guard = Buffer.from(memory.buffer, size, GUARD_BYTES).fill(GUARD);
  }

  /** Whether a call wrote behind the buffer since this was asked last. */
  takeOverrun(): boolean {
    if (this.#guard.equals(UNTOUCHED)) return false;
    this.#guard.fill(GUARD);
    return true;
  }

  /** Fills the buffer with a pattern that no reading has, for `rowSize`. */
  mark(): this {
    this.bytes.fill(GUARD);
    return this;
  }

  /** The end of what was written since `mark()` below `limit`, in bytes. */
  writtenEnd(limit: number): number {
    let end = Math.min(limit, this.bytes.length);
    while (end > 0 && this.bytes[end - 1] === GUARD) end--;
    return end;
  }

  fresh(length = this.bytes.length): this {
    this.bytes.fill(0xff, 0, length);
    return this;
  }

  u32(offset = 0): number {
    return this.view.getUint32(offset, true);
  }

  /** Undefined where the driver left the sentinel: all ones also is how NVML spells "not available". */
  u32OrAbsent(offset = 0): number | undefined {
    const value = this.u32(offset);
    return value === 0xffff_ffff ? undefined : value;
  }

  /** A 64-bit value as a number; undefined for all ones and above 2^53, which no real counter of ours reaches. */
  u64(offset = 0): number | undefined {
    const value = this.view.getUint32(offset, true) + this.view.getUint32(offset + 4, true) * 0x1_0000_0000;
    return value > Number.MAX_SAFE_INTEGER ? undefined : value;
  }

  /** A pointer as a number: user addresses stay below 2^47. */
  handle(offset = 0): number {
    return this.u64(offset) ?? 0;
  }

  setU32(offset: number, value: number): void {
    this.view.setUint32(offset, value, true);
  }

  setU64(offset: number, value: number): void {
    this.view.setUint32(offset, value >>> 0, true);
    this.view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000) >>> 0, true);
  }

  /** Text up to the first NUL, at most `length` bytes. */
  text(offset: number, length: number): string {
    const part = this.bytes.subarray(offset, offset + length);
    const end = part.indexOf(0);
    return Buffer.from(part.subarray(0, end === -1 ? length : end)).toString("latin1");
  }
}

const UNTOUCHED = Buffer.alloc(GUARD_BYTES, GUARD);

/**
 * The size of the rows a call wrote into a marked buffer: the one that fits to where its writing ended. Undefined when
 * none does, because this driver's rows are of a size no header knows.
 */
export function rowSize(
  cell: Cell,
  count: number,
  kinds: readonly { readonly size: number; readonly written: number }[],
): number | undefined {
  const largest = Math.max(...kinds.map(({ size }) => size));
  const end = cell.writtenEnd(count * largest + GUARD_BYTES);
  return kinds.find(({ size, written }) => end <= count * size && end >= (count - 1) * size + written)?.size;
}

/** Decodes an nvmlValue_t union; undefined for a type no header knows or a value out of range. */
export function decodeValue(view: DataView, offset: number, type: number): number | undefined {
  switch (type) {
    case 0:
      return finite(view.getFloat64(offset, true));
    case 1:
      return view.getUint32(offset, true);
    case 2:
    case 3:
    case 4: {
      const value = type === 4 ? view.getBigInt64(offset, true) : view.getBigUint64(offset, true);
      return value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER)
        ? undefined
        : Number(value);
    }
    case 5:
      return view.getInt32(offset, true);
    case 6:
      return view.getUint16(offset, true);
    default:
      return undefined;
  }
}

function finite(value: number): number | undefined {
  return Number.isFinite(value) ? value : undefined;
}
