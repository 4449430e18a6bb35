// Processes from a resident `nvidia-smi pmon -s um`: pid, type, SM share and memory of every process, and one row of
// dashes for an idle GPU, so that its rounds can be kept apart. Columns differ by driver: the header names them, `-` is
// absent. Rows name GPUs by index. SM shares above 100 are dropped; a share of 0 for a silent process is not printed.
import type { GpuProcess, Nanos, ProcessShare } from "../../model.ts";

const MIB = 2 ** 20;
const PROCESSES_MAX = 65_536;

/** What one round of pmon said of one GPU. */
export interface PmonRound {
  readonly at: Nanos;
  readonly processes: readonly GpuProcess[];
  readonly shares: readonly ProcessShare[];
}

/** Puts rows together to rounds: a row of a GPU seen before in this round, with the same process, opens the next. */
export class PmonReader {
  #columns: readonly string[] = [];
  readonly #open = new Map<number, { processes: GpuProcess[]; shares: ProcessShare[]; pids: Set<number> }>();
  readonly #rounds = new Map<number, PmonRound>();
  #lastIndex = -1;

  /** The last complete round by GPU index. */
  get rounds(): ReadonlyMap<number, PmonRound> {
    return this.#rounds;
  }

  /** Takes a line; true when it was a row. */
  readLine(line: string, at: Nanos): boolean {
    if (line.startsWith("#")) {
      const words = line.slice(1).trim().split(/\s+/);
      if (words[0] === "gpu") this.#columns = words;
      return false;
    }
    const cells = line.trim().split(/\s+/);
    const cell = (name: string): string => cells[this.#columns.indexOf(name)] ?? "-";
    const index = Number(cell("gpu"));
    if (this.#columns.length === 0 || !Number.isSafeInteger(index) || index < 0) return false;
    const pid = Number(cell("pid"));
    // A dash is an idle GPU; anything else that is no number says nothing of it.
    if (Number.isNaN(pid) && cell("pid") !== "-") return false;
    // GPUs come in order: a lower index, or a process seen already, begins the next round.
    if (index < this.#lastIndex || this.#open.get(index)?.pids.has(pid) || this.#isIdleAgain(index, pid))
      this.#close(at);
    this.#lastIndex = index;
    const round = this.#open.get(index) ?? { processes: [], shares: [], pids: new Set<number>() };
    this.#open.set(index, round);
    if (Number.isSafeInteger(pid) && pid > 0 && round.processes.length < PROCESSES_MAX) {
      round.pids.add(pid);
      this.#addProcess(round, pid, cell, cells, at);
    }
    return true;
  }

  #isIdleAgain(index: number, pid: number): boolean {
    return Number.isNaN(pid) && this.#open.has(index);
  }

  #addProcess(
    round: { processes: GpuProcess[]; shares: ProcessShare[] },
    pid: number,
    cell: (name: string) => string,
    cells: readonly string[],
    at: Nanos,
  ): void {
    const type = cell("type");
    if (!type.includes("C")) return;
    const memory = Number(cell("fb"));
    const share = Number(cell("sm"));
    const command = this.#columns.indexOf("command");
    const name = command === -1 ? "" : cells.slice(command).join(" ");
    if (name.startsWith("nvidia-cuda-mps")) return;
    round.processes.push({
      pid,
      // `M+C` is an MPS client, `C+G` a compute process that also draws.
      type: type.includes("M") ? "mps" : "compute",
      ...(Number.isFinite(memory) && memory >= 0 ? { memoryBytes: memory * MIB } : {}),
      ...(name === "" || name === "-" ? {} : { name }),
    });
    if (share >= 0 && share <= 100) round.shares.push({ pid, at, smRatio: share / 100 });
  }

  #close(at: Nanos): void {
    for (const [index, { processes, shares }] of this.#open)
      this.#rounds.set(index, { at, processes, shares });
    this.#open.clear();
    this.#lastIndex = -1;
  }
}
