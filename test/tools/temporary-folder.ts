// One folder for what the tests of a run put into the temporary one, removed when it ends: a suite leaves a thousand there.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Called by Vitest before it begins processes for the tests; what it returns is called when they ended. */
// biome-ignore lint/style/noDefaultExport: what Vitest looks for.
export default function setup(): () => void {
  // Short: the path of a Unix socket has room for 107 bytes.
  const folder = mkdtempSync(join(tmpdir(), "tw-"));
  process.env["TMPDIR"] = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}
