// A report in a file: written beside it and moved into place when it is whole, so that a reader never finds half of one.
import { closeSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { UsageError } from "../common/errors.ts";
import type { Io } from "../common/io.ts";
import { tell } from "../common/io.ts";

/** Runs `work` with its data going to `path`; nothing is left or replaced where it fails. */
export async function writeWhole(path: string, io: Io, work: (io: Io) => Promise<void>): Promise<void> {
  const beside = `${path}.part`;
  let bytes = 0;
  const file = openNew(beside, path);
  try {
    const write = (text: string): void => {
      writeFileSync(file, text);
      bytes += Buffer.byteLength(text);
    };
    await work({ ...io, stdout: { write }, setExit: (code) => io.setExit(code) });
    closeSync(file);
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error;
  }
  tell(io, `wrote ${path}, ${Math.ceil(bytes / 1000)} kB`);
}

function openNew(beside: string, path: string): number {
  try {
    return openSync(beside, "w");
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(
      `Cannot write --output ${path}: ${why}`,
      "name a file in a folder that exists and may be written",
    );
  }
}
