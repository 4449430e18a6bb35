// Compute processes, MPS clients and each process's share of the SMs.
// Process ids are the host's: inside a PID namespace they match nothing. Shares: the driver credits each 200 ms window to one
// process; asked with lastSeen = the newest stamp taken before, or stale history comes back. Values over 100 and
// zero stamps are dropped (zombies return rows of 100). The MPS server itself is no workload and is left out.
import { readFileSync } from "node:fs";
import { CODE } from "./codes.ts";
import type { Device } from "./device.ts";
import { readClocks } from "./driver-clock.ts";
import { Cell, PROCESS, PROCESS_SAMPLE, WORD } from "./layouts.ts";
import type { Nvml, NvmlCall } from "./library.ts";
import type { Draft, ProcessTable } from "./protocol.ts";

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

/** Reads processes of one device after another into the same buffers. */
export class ProcessReader {
  #rows = new Cell(256 * PROCESS.size);
  #shares = new Cell(256 * PROCESS_SAMPLE.size);
  readonly #count = new Cell(WORD);
  readonly #tables = new WeakMap<Device, ProcessTable>();
  readonly #names = new Map<number, string>();
  absurd = 0;

  /** Sets `processes`, and `processShares` where more than one process makes them worth their 2.4 ms. */
  read(nvml: Nvml, device: Device, draft: Draft): void {
    const compute = this.#list(nvml, device, "processes", "nvmlDeviceGetComputeRunningProcesses_v3", false);
    if (compute === undefined) return;
    const mps = this.#list(nvml, device, "mps_processes", "nvmlDeviceGetMPSComputeRunningProcesses_v3", true);
    const table = this.#table([...compute, ...(mps ?? [])]);
    const same = sameTable(this.#tables.get(device), table);
    if (!same) this.#tables.set(device, table);
    draft.processes = same ? "same" : table;
    if (table.pids.length > 1 && device.parent === undefined) this.#readShares(nvml, device, draft);
  }

  /** Forgets names of processes that are gone; call once per poll with every device that was read. */
  prune(devices: readonly Device[]): void {
    const alive = new Set<number>();
    for (const device of devices) for (const pid of this.#tables.get(device)?.pids ?? []) alive.add(pid);
    for (const pid of this.#names.keys()) if (!alive.has(pid)) this.#names.delete(pid);
  }

  #list(nvml: Nvml, device: Device, capability: string, symbol: NvmlCall, mps: boolean): Row[] | undefined {
    if (!device.can(capability)) return undefined;
    let code = CODE.insufficientSize as number;
    for (let attempt = 0; attempt < 4 && code === CODE.insufficientSize; attempt++) {
      const room = this.#rows.bytes.length / PROCESS.size;
      this.#count.setU32(0, room);
      code = nvml.call(symbol, device.handle, this.#count.bytes, this.#rows.bytes);
      if (code === CODE.insufficientSize) {
        const wanted = Math.min(ROWS_MAX, Math.max(room, this.#count.u32()) * 2);
        this.#rows = new Cell(wanted * PROCESS.size);
      }
    }
    if (code === CODE.insufficientSize) return undefined;
    const outcome = device.judge(nvml, capability, symbol, code);
    if (outcome !== "ok") return outcome === "empty" ? [] : undefined;
    return this.#decodeRows(mps);
  }

  #decodeRows(mps: boolean): Row[] {
    const count = Math.min(this.#count.u32(), this.#rows.bytes.length / PROCESS.size);
    const rows: Row[] = [];
    for (let index = 0; index < count; index++) {
      const offset = index * PROCESS.size;
      const pid = this.#rows.u32(offset + PROCESS.pid);
      if (pid === 0 || pid > 0x7fff_ffff) this.absurd++;
      else rows.push({ pid, memory: this.#rows.u64(offset + PROCESS.memory) ?? Number.NaN, mps });
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
      const room = this.#shares.bytes.length / PROCESS_SAMPLE.size;
      this.#count.setU32(0, room);
      const after = device.lastSeen.processes;
      code = nvml.call(
        "nvmlDeviceGetProcessUtilization",
        device.handle,
        this.#shares.bytes,
        this.#count.bytes,
        after,
      );
      if (code === CODE.insufficientSize) {
        const wanted = Math.min(ROWS_MAX, Math.max(room, this.#count.u32()) * 2);
        this.#shares = new Cell(wanted * PROCESS_SAMPLE.size);
      }
    }
    if (code === CODE.insufficientSize) return;
    if (device.judge(nvml, "process_share", "nvmlDeviceGetProcessUtilization", code) !== "ok") return;
    const shares = this.#decodeShares(device);
    if (shares.length > 0) draft.processShares = Float64Array.from(shares);
  }

  #decodeShares(device: Device): number[] {
    const now = readClocks();
    const count = Math.min(this.#count.u32(), this.#shares.bytes.length / PROCESS_SAMPLE.size);
    const found: { pid: number; stamp: number; share: number }[] = [];
    for (let index = 0; index < count; index++) {
      const offset = index * PROCESS_SAMPLE.size;
      const stamp = this.#shares.u64(offset + PROCESS_SAMPLE.at);
      const share = this.#shares.u32(offset + PROCESS_SAMPLE.sm);
      if (stamp === undefined || stamp === 0 || share > 100 || stamp > now.unixMicros + AHEAD_MICROS)
        this.absurd++;
      else if (stamp > device.lastSeen.processes) {
        found.push({ pid: this.#shares.u32(offset + PROCESS_SAMPLE.pid), stamp, share: share / 100 });
      }
    }
    const newest = found.reduce((most, { stamp }) => Math.max(most, stamp), 0);
    if (newest === 0) return [];
    device.processClock.observe(newest, now);
    const first = device.lastSeen.processes === 0;
    device.lastSeen.processes = newest;
    // The first answer holds whatever the driver remembers, of unknown age.
    if (first) return [];
    return found.flatMap(({ pid, stamp, share }) => [pid, device.processClock.nanos(stamp, now), share]);
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

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "latin1").trimEnd();
  } catch {
    return "";
  }
}
