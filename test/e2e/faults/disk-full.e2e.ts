// A truly full disk: a small tmpfs in a mount namespace of our own, which needs no root where user namespaces are on.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const SHELL = 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$1" "$2" "$0"';

function hasNamespaces(): boolean {
  const tried = spawnSync("unshare", ["-rm", "true"], { encoding: "utf8" });
  if (tried.status === 0) return true;
  console.warn(
    `SKIPPED: no small disk without user and mount namespaces: ${tried.error?.message ?? tried.stderr.trim()}`,
  );
  return false;
}

test.skipIf(!hasNamespaces())(
  "a full disk costs nothing it was not told to cost, and the spool returns to disk",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "full-"));
    const child = fileURLToPath(new URL("disk-full-child.ts", import.meta.url));
    const output = execFileSync("unshare", ["-rm", "sh", "-c", SHELL, folder, process.execPath, child], {
      encoding: "utf8",
    });
    rmSync(folder, { recursive: true, force: true });
    console.log(output.trim());
    const seen = JSON.parse(output) as Record<string, unknown>;
    expect(seen["freeWhenFull"]).toBe(0);
    expect(seen).toMatchObject({
      missingWhenFull: 0,
      newestWhenFull: 250,
      newestAfter: 350,
      ascending: true,
    });
    expect((seen["lossesAfter"] as { why: string }[]).every((loss) => loss.why === "disk_full")).toBe(true);
  },
);
