// Gives memory back to the system: what malloc holds free between blocks in use, every minute (it gives back by itself only
// what is free at its end: 6 MB of 35), and the resident pages of Node's own file that only starting needed. Around every page that a start touches the
// kernel maps 64 KiB, 70-80 MB in each process, and while the host has memory it takes none of it back. What is used again
// comes back from the page cache by itself: about a third. Measured with `npm run bench -- pack`: 203 MB PSS over all
// processes become 160. A kernel that maps whole folios (6.18) gains less where the file was written in one piece.
import { readFileSync, readlinkSync } from "node:fs";
import type { Cancel, Clock } from "./clock.ts";
import { every } from "./clock.ts";
import type { Log } from "./log.ts";

// madvise(2): of a private mapping that was never written to, the pages go and nothing else; the next use maps them again.
const MADV_DONTNEED = 4;
/** Starting is over: every source was polled and the first beats are out. */
const FIRST_MS = 30_000;
/** What a reload or a rare page of an endpoint brought back goes again. */
const PERIOD_MS = 3_600_000;
/** A trim takes a millisecond. */
const TRIM_MS = 60_000;

/** A range of addresses that is mapped from a file, and how much of it is resident. */
export interface MappedPages {
  readonly address: bigint;
  readonly bytes: number;
  readonly residentBytes: number;
}

/** Gives the pages back after half a minute and every hour. Needs /proc and koffi; where it cannot, memory stays as it is. */
export function keepProgramPagesFew(clock: Clock, log?: Log): Cancel {
  const release = async (): Promise<void> => {
    try {
      const bytes = await releaseProgramPages();
      log?.debug("pages of the program given back", { bytes });
    } catch (error) {
      log?.debug("pages of the program stay resident", { cause: String(error) });
    }
  };
  const first = clock.now() + FIRST_MS * 1e6;
  const cancels = [
    every(clock, PERIOD_MS, release, first),
    every(clock, TRIM_MS, async () => void (await trimHeap().catch(() => {})), first),
  ];
  return () => {
    for (const cancel of cancels) cancel();
  };
}

/** Gives back what malloc holds free. Rejects where the C library has no malloc_trim (musl). */
async function trimHeap(): Promise<void> {
  trim ??= (await import("koffi")).default.load(null).func("int malloc_trim(size_t pad)") as (
    pad: number,
  ) => number;
  trim(0);
}

let trim: ((pad: number) => number) | undefined;

/**
 * Gives the pages back now and returns how many bytes of them were resident. Throws where /proc or koffi cannot be read.
 * Exported for its test: the kernel says what it did.
 */
export async function releaseProgramPages(): Promise<number> {
  const { default: koffi } = await import("koffi");
  const madvise = koffi.load(null).func("int madvise(uint64_t address, size_t bytes, int advice)");
  let released = 0;
  for (const { address, bytes, residentBytes } of programPages()) {
    if (madvise(address, bytes, MADV_DONTNEED) === 0) released += residentBytes;
  }
  return released;
}

/** The read-only mappings of this process' own program. Exported for its test: maps of every layout. */
export function programPages(): MappedPages[] {
  return mappedPages(readFileSync("/proc/self/smaps", "latin1"), readlinkSync("/proc/self/exe"));
}

/**
 * The mappings of a file in a smaps text (proc(5)) whose pages can be read again from the file: private, not writable,
 * and without an anonymous page, which is one that was changed in memory (relocations) and would be lost.
 * Exported for its test: maps of every layout.
 */
export function mappedPages(smaps: string, file: string): MappedPages[] {
  return smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).flatMap((mapping) => {
    const head = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p [0-9a-f]+ \S+ \d+ +(.*)\n/.exec(mapping);
    if (head === null || head[3] !== file || kilobytes(mapping, "Anonymous") !== 0) return [];
    const address = BigInt(`0x${head[1]}`);
    const bytes = Number(BigInt(`0x${head[2]}`) - address);
    return [{ address, bytes, residentBytes: 1024 * kilobytes(mapping, "Rss") }];
  });
}

/** Not a number where the line is missing. */
function kilobytes(mapping: string, name: string): number {
  return Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(mapping)?.[1]);
}
