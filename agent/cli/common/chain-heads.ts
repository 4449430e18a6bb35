// Heads of the audit chain that left the host earlier: lines of JSON with `length` and `hash`, as `verify --json`, `verify
// --print-head` and `/-/status` give them, or with a number as `head`, which the agent exports beside the length every beat.
import type { ChainHead } from "../../store/ledger/verify.ts";
import { UsageError } from "./errors.ts";

/** The heads a file holds, one on each line. Throws UsageError, which names `flag`, where it holds none or something else. */
export async function readHeads(flag: string, file: string): Promise<readonly ChainHead[]> {
  const { readFileSync } = await import("node:fs");
  const heads: ChainHead[] = [];
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`Cannot read ${flag} ${file}: ${(error as Error).message}`);
  }
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const head = headOf(line);
    if (head === undefined) {
      throw new UsageError(
        `Cannot read ${file}:${index + 1}: wanted JSON with length and hash, or length and head as a number`,
        "keep what `tokenwatt verify --print-head` prints, one line each time",
      );
    }
    heads.push(head);
  }
  if (heads.length === 0) throw new UsageError(`Cannot compare with ${file}: it holds no head`);
  return heads;
}

/** Hexadecimal digits of a hash that leave the host as a number (export/self/metrics.ts). */
const exportedDigits = 13;

function numbered(length: unknown, head: number): ChainHead | undefined {
  if (typeof length !== "number" || !Number.isSafeInteger(head) || head < 0) return undefined;
  return { length, hash: length === 0 ? "" : head.toString(16).padStart(exportedDigits, "0") };
}

function headOf(line: string): ChainHead | undefined {
  try {
    const value = JSON.parse(line) as { length?: unknown; hash?: unknown; head?: unknown };
    if (typeof value.head === "number") return numbered(value.length, value.head);
    const { hash, length } = (value.head ?? value) as typeof value;
    if (typeof length !== "number" || typeof hash !== "string") return undefined;
    // Less than a number holds would fit too many histories; the head of an empty chain is empty.
    return hash.length >= exportedDigits || length === 0 ? { length, hash } : undefined;
  } catch {
    return undefined;
  }
}
