// Requests a destination refused for good, kept for a person to look at: one file each, bounded, oldest dropped first.
// `<time>-<destination>-<why>.otlp` is an ExportMetricsServiceRequest as it was sent; any OTLP tool decodes it.
import type { Files } from "./files.ts";
import { diskFiles } from "./files.ts";

/** Keeps refused requests in a folder. */
export interface DeadLetters {
  /** Keeps one; never rejects. False when it could not be kept. */
  put(destination: string, bytes: Uint8Array, why: string, unixMs: number): Promise<boolean>;
  status(): { readonly kept: number; readonly dropped: number };
}

/** Opens or makes the folder, at the latest with the first letter. */
export function openDeadLetters(options: { folder: string; filesMax?: number; files?: Files }): DeadLetters {
  const { folder, filesMax = 100, files = diskFiles } = options;
  let kept = 0;
  let dropped = 0;
  let counter = 0;
  let turn: Promise<unknown> = Promise.resolve();
  const put = async (
    destination: string,
    bytes: Uint8Array,
    why: string,
    unixMs: number,
  ): Promise<boolean> => {
    try {
      await files.makeFolder(folder);
      const names = (await files.list(folder)).filter((name) => name.endsWith(".otlp")).sort();
      for (const name of names.slice(0, Math.max(0, names.length + 1 - filesMax))) {
        await files.remove(`${folder}/${name}`);
        dropped++;
      }
      const safe = [destination, why]
        .map((text) => text.replace(/[^A-Za-z0-9_]/g, "-").slice(0, 40))
        .join("-");
      counter = (counter + 1) % 10_000;
      const stamp = `${String(Math.round(unixMs)).padStart(14, "0")}${String(counter).padStart(4, "0")}`;
      const file = await files.open(`${folder}/${stamp}-${safe}.otlp`, "create");
      try {
        await file.write(bytes, 0);
      } finally {
        await file.close();
      }
      kept++;
      return true;
    } catch {
      dropped++;
      return false;
    }
  };
  return {
    put: (destination, bytes, why, unixMs) => {
      const mine = turn.then(() => put(destination, bytes, why, unixMs));
      turn = mine;
      return mine;
    },
    status: () => ({ kept, dropped }),
  };
}
