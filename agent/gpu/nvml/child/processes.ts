// Compute processes, MPS clients and each process's share of the SMs.
// The size of a row differs by driver under one name: it is found in a marked buffer, and no more rows are announced than
// fit at the largest size.
// Process ids are the host's: inside a PID namespace they match nothing. Shares: the driver credits each 200 ms window to one
// process; asked with lastSeen = the newest stamp taken before, or stale history comes back. Values over 100 and
// zero stamps are dropped (zombies return rows of 100). The MPS server itself is no workload and is left out.
import { readFileSync } from "node:fs";
import { CODE } from "../codes.ts";
import type { Draft, ProcessTable } from "../protocol.ts";
import type { Device } from "./device.ts";
import { readClocks } from "./driver-clock.ts";
import type { DriverVersion } from "./driver-version.ts";
import { processRowBytes } from "./driver-version.ts";
import { Cell, PROCESS, PROCESS_SAMPLE, rowSize, WORD } from "./layouts.ts";
import type { Nvml, NvmlCall } from "./library.ts";

const ROWS_MAX = 65_536;
const NAMES_PER_READ = 50;
const AHEAD_MICROS = 1_000_000;
/** /proc comm holds 15 characters of `nvidia-cuda-mps-server`. */
const MPS_SERVER = "nvidia-cuda-mps";

interface Row {
  readonly pid: number;
  readonly memory: number;
  readonly mps: boolean;
}

/** Rows as the driver wrote them, and how long each is. */
interface Rows {
  readonly bytes: Buffer;
  readonly size: number;
}

/** The last answer of a device. `complete` = every process of it has been looked up by name. */
interface Known {
  readonly compute: Rows;
  readonly mps: Rows;
  readonly table: ProcessTable;
  readonly complete: boolean;
}

const COMPUTE = { call: "nvmlDeviceGetComputeRunningProcesses_v3", buffer: "compute" } as const;
const MPS = { call: "nvmlDeviceGetMPSComputeRunningProcesses_v3", buffer: "mps" } as const;
const NO_ROWS: Rows = { bytes: Buffer.alloc(0), size: PROCESS.size };

/** Reads processes of one device after another into the same buffers. */
export class ProcessReader {
  readonly #rows = {
    compute: new Cell(256 * PROCESS.sizeMax),
    mps: new Cell(64 * PROCESS.sizeMax),
  };
  #shares = new Cell(2 * 256 * PROCESS_SAMPLE.size);
  readonly #count = new Cell(WORD);
  readonly #known = new WeakMap<Device, Known>();
  readonly #names = new Map<number, string>();
  #changed = false;
  #rowKinds: readonly (typeof PROCESS.rows)[number][] = PROCESS.rows;
  absurd = 0;
  /** Bytes of a row as last seen; undefined before a process was listed. */
  rowBytes: number | undefined;

  /** Takes the driver that is read: its size of rows is tried first. */
  expect(driver: DriverVersion | undefined): void {
    const expected = processRowBytes(driver);
    this.#rowKinds = PROCESS.rows.toSorted(
      (a, b) => Number(b.size === expected) - Number(a.size === expected),
    );
  }

  /** Sets `processes`, and `processShares` where more than one process makes them worth their 2.4 ms. */
  read(nvml: Nvml, device: Device, draft: Draft): void {
    const compute = this.#list(nvml, device, "processes", COMPUTE);
    if (compute === undefined) return;
    const mps = this.#list(nvml, device, "mps_processes", MPS) ?? NO_ROWS;
    const known = this.#known.get(device);
    // Lists rarely change from second to second: an answer of the same bytes is not decoded again.
    const same = known !== undefined && sameRows(known.compute, compute) && sameRows(known.mps, mps);
    if (same) draft.processes = this.#completeNames(device, known);
    else draft.processes = this.#decode(device, copyOf(compute), copyOf(mps));
    const count = this.#known.get(device)?.table.pids.length ?? 0;
    if (count > 1 && device.parent === undefined) this.#readShares(nvml, device, draft);
  }

  /** Forgets names of processes that are gone; call once per poll with every device that was read. */
  prune(devices: readonly Device[]): void {
    if (!this.#changed) return;
    this.#changed = false;
    const alive = new Set<number>();
    for (const device of devices) for (const pid of this.#known.get(device)?.table.pids ?? []) alive.add(pid);
    for (const pid of this.#names.keys()) if (!alive.has(pid)) this.#names.delete(pid);
  }

  #decode(device: Device, compute: Rows, mps: Rows): ProcessTable | "same" {
    const table = this.#table([...this.#rowsOf(compute, false), ...this.#rowsOf(mps, true)]);
    const before = this.#known.get(device)?.table;
    const complete = table.pids.every((pid) => this.#names.has(pid));
    this.#known.set(device, { compute, mps, table, complete });
    this.#changed = true;
    return sameTable(before, table) ? "same" : table;
  }

  /** Looks up the next names of a list that has not changed; a name may show that a process is no resident. */
  #completeNames(device: Device, known: Known): ProcessTable | "same" {
    if (known.complete) return "same";
    let lookups = 0;
    for (const pid of known.table.pids) {
      if (this.#names.has(pid)) continue;
      if (lookups++ === NAMES_PER_READ) return "same";
      this.#names.set(pid, commandOf(pid));
    }
    // Every name is known now: the list is put together once more.
    return this.#decode(device, known.compute, known.mps);
  }

  /** The driver's rows, valid until the next call; undefined when it cannot say. */
  #list(
    nvml: Nvml,
    device: Device,
    capability: string,
    kind: { readonly call: NvmlCall; readonly buffer: "compute" | "mps" },
  ): Rows | undefined {
    if (!device.can(capability)) return undefined;
    let code = CODE.insufficientSize as number;
    for (let attempt = 0; attempt < 4 && code === CODE.insufficientSize; attempt++) {
      const cell = this.#rows[kind.buffer].mark();
      const room = cell.bytes.length / PROCESS.sizeMax;
      this.#count.setU32(0, room);
      code = nvml.call(kind.call, device.handle, this.#count, cell);
      if (code === CODE.insufficientSize) {
        const wanted = Math.min(ROWS_MAX, Math.max(room, this.#count.u32()) * 2);
        this.#rows[kind.buffer] = new Cell(wanted * PROCESS.sizeMax);
      }
    }
    if (code === CODE.insufficientSize) return undefined;
    const name = nvml.nameOf(kind.call);
    const outcome = device.judge(nvml, capability, name, code);
    if (outcome !== "ok") return outcome === "empty" ? NO_ROWS : undefined;
    const cell = this.#rows[kind.buffer];
    const count = Math.min(this.#count.u32(), cell.bytes.length / PROCESS.sizeMax);
    if (count === 0) return NO_ROWS;
    const size = rowSize(cell, count, this.#rowKinds);
    if (size === undefined) {
      const reason = `${name}: wrote ${count} rows of a size no known driver has; report the driver's version`;
      device.refuse(capability, reason, true);
      return undefined;
    }
    this.rowBytes = size;
    return { bytes: Buffer.from(cell.bytes.buffer, 0, count * size), size };
  }

  #rowsOf({ bytes, size }: Rows, mps: boolean): Row[] {
    const rows: Row[] = [];
    for (let offset = 0; offset + size <= bytes.length; offset += size) {
      const pid = bytes.readUInt32LE(offset + PROCESS.pid);
      const high = bytes.readUInt32LE(offset + PROCESS.memory + 4);
      const memory = bytes.readUInt32LE(offset + PROCESS.memory) + high * 2 ** 32;
      // All ones is how the driver says that it may not tell.
      if (pid === 0 || pid > 0x7fff_ffff) this.absurd++;
      else rows.push({ pid, memory: memory > Number.MAX_SAFE_INTEGER ? Number.NaN : memory, mps });
    }
    return rows;
  }

  /** One row per process: a process listed by several compute instances or as both kinds is counted once. */
  #table(rows: readonly Row[]): ProcessTable {
    const byPid = new Map<number, Row>();
    let lookups = 0;
    for (const row of rows) {
      if (!this.#names.has(row.pid) && lookups++ < NAMES_PER_READ)
        this.#names.set(row.pid, commandOf(row.pid));
      if (this.#names.get(row.pid) === MPS_SERVER) continue;
      const before = byPid.get(row.pid);
      byPid.set(row.pid, before === undefined ? row : { ...row, mps: row.mps || before.mps });
    }
    const kept = [...byPid.values()].sort((left, right) => left.pid - right.pid);
    return {
      pids: Float64Array.from(kept, (row) => row.pid),
      memory: Float64Array.from(kept, (row) => row.memory),
      mps: Uint8Array.from(kept, (row) => (row.mps ? 1 : 0)),
      names: kept.map((row) => this.#names.get(row.pid) ?? ""),
    };
  }

  #readShares(nvml: Nvml, device: Device, draft: Draft): void {
    if (!device.can("process_share")) return;
    let code = CODE.insufficientSize as number;
    for (let attempt = 0; attempt < 3 && code === CODE.insufficientSize; attempt++) {
      // Half of the room: rows of twice our size would still fit.
      const room = this.#shares.bytes.length / PROCESS_SAMPLE.size / 2;
      this.#shares.bytes.fill(0);
      this.#count.setU32(0, room);
      const after = device.lastSeen.processes;
      code = nvml.call("nvmlDeviceGetProcessUtilization", device.handle, this.#shares, this.#count, after);
      if (code === CODE.insufficientSize) {
        const wanted = Math.min(ROWS_MAX, Math.max(room, this.#count.u32()) * 2);
        this.#shares = new Cell(2 * wanted * PROCESS_SAMPLE.size);
      }
    }
    if (code === CODE.insufficientSize) return;
    if (device.judge(nvml, "process_share", "nvmlDeviceGetProcessUtilization", code) !== "ok") return;
    const shares = this.#decodeShares(device);
    if (shares !== undefined) draft.processShares = shares;
  }

  /** Shares newer than all before as [pid, at, ratio, ...]; undefined when there are none. */
  #decodeShares(device: Device): Float64Array | undefined {
    const now = readClocks();
    const after = device.lastSeen.processes;
    const count = Math.min(this.#count.u32(), this.#shares.bytes.length / PROCESS_SAMPLE.size / 2);
    const found = new Float64Array(count * 3);
    let length = 0;
    let newest = 0;
    for (let index = 0; index < count; index++) {
      const offset = index * PROCESS_SAMPLE.size;
      const stamp = this.#shares.u64(offset + PROCESS_SAMPLE.at);
      const share = this.#shares.u32(offset + PROCESS_SAMPLE.sm);
      if (stamp === undefined || stamp === 0 || share > 100 || stamp > now.unixMicros + AHEAD_MICROS)
        this.absurd++;
      else if (stamp > after) {
        newest = Math.max(newest, stamp);
        // A silent process counts 0 anyway: most of a thousand are.
        if (share === 0) continue;
        found[length++] = this.#shares.u32(offset + PROCESS_SAMPLE.pid);
        found[length++] = stamp;
        found[length++] = share / 100;
      }
    }
    if (newest === 0) return undefined;
    device.processClock.observe(newest, now);
    device.lastSeen.processes = newest;
    // The first answer holds whatever the driver remembers, of unknown age.
    if (after === 0 || length === 0) return undefined;
    for (let place = 1; place < length; place += 3) {
      found[place] = device.processClock.nanos(found[place] ?? 0, now);
    }
    return found.slice(0, length);
  }
}

function sameTable(before: ProcessTable | undefined, now: ProcessTable): boolean {
  if (before === undefined || before.pids.length !== now.pids.length) return false;
  for (let index = 0; index < now.pids.length; index++) {
    if (before.pids[index] !== now.pids[index] || before.mps[index] !== now.mps[index]) return false;
    if (!Object.is(before.memory[index], now.memory[index]) || before.names[index] !== now.names[index])
      return false;
  }
  return true;
}

function sameRows(before: Rows, now: Rows): boolean {
  return before.size === now.size && before.bytes.equals(now.bytes);
}

/** The rows apart from the buffer that the next call overwrites. */
function copyOf({ bytes, size }: Rows): Rows {
  return { bytes: Buffer.from(bytes), size };
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "latin1").trimEnd();
  } catch {
    return "";
  }
}
