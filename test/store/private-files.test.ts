// Modes and links of the state folder, on the real file system.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  existingFolder,
  makeFolder,
  narrowFolder,
  writePrivateFile,
} from "../../agent/store/private-files.ts";
import { diskFiles } from "../../agent/store/spool/files.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tokenwatt-private-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const mode = (name: string): string => (statSync(join(folder, name)).mode & 0o777).toString(8);

describe("makeFolder()", () => {
  test("makes what is missing, for the user and its group, and says where it began", () => {
    const before = process.umask(0o002);
    try {
      expect(makeFolder(join(folder, "a/b/c"))).toBe(join(folder, "a"));
      expect([mode("a"), mode("a/b"), mode("a/b/c")]).toEqual(["750", "750", "750"]);
      expect(makeFolder(join(folder, "a/b/c"))).toBeUndefined();
    } finally {
      process.umask(before);
    }
  });

  test("ends with the system's error where no folder can be made", () => {
    expect(() => makeFolder("/proc/tokenwatt/state")).toThrow(/ENOENT/);
    writeFileSync(join(folder, "file"), "");
    expect(() => makeFolder(join(folder, "file"))).toThrow(/EEXIST.*is a file/);
    expect(() => makeFolder(join(folder, "file/below"))).toThrow(/ENOTDIR/);
  });

  test("names a link that leads nowhere, wherever it is on the way", () => {
    symlinkSync(join(folder, "gone"), join(folder, "link"));
    for (const path of ["link", "link/below"]) {
      expect(() => makeFolder(join(folder, path))).toThrow(/is a link to .*gone, which is not there/);
      expect(() => existingFolder(join(folder, path))).toThrow(/which is not there/);
    }
    mkdirSync(join(folder, "gone"));
    makeFolder(join(folder, "link/below"));
    expect(existsSync(join(folder, "gone/below"))).toBe(true);
    expect(existingFolder(join(folder, "link/below/a/b"))).toBe(join(folder, "link/below"));
  });
});

describe("narrowFolder()", () => {
  test("takes from others what an older version left open, and names it", () => {
    mkdirSync(join(folder, "spool"));
    for (const [name, open] of [
      ["ledger.db", 0o644],
      ["spool/1.segment", 0o666],
      ["fine", 0o600],
    ] as const) {
      writeFileSync(join(folder, name), "");
      chmodSync(join(folder, name), open);
    }
    chmodSync(folder, 0o775);
    chmodSync(join(folder, "spool"), 0o755);
    const { links, narrowed, open } = narrowFolder(folder);
    expect(narrowed.toSorted()).toEqual([
      ". (0775)",
      "ledger.db (0644)",
      "spool (0755)",
      "spool/1.segment (0666)",
    ]);
    expect([open, links]).toEqual([[], []]);
    expect([mode("."), mode("ledger.db"), mode("spool"), mode("spool/1.segment"), mode("fine")]).toEqual([
      "750",
      "640",
      "750",
      "640",
      "600",
    ]);
    expect(narrowFolder(folder).narrowed).toEqual([]);
  });

  test("names own files that are links, and changes nothing behind a link", () => {
    const victim = join(folder, "victim");
    writeFileSync(victim, "", { mode: 0o666 });
    chmodSync(victim, 0o644);
    mkdirSync(join(folder, "state"), { mode: 0o750 });
    for (const name of ["ledger.db-wal", "other"]) symlinkSync(victim, join(folder, "state", name));
    expect(narrowFolder(join(folder, "state"))).toEqual({
      narrowed: [],
      open: [],
      links: [`ledger.db-wal -> ${victim}`],
    });
    expect(mode("victim")).toBe("644");
  });
});

test("no file of the state is written or read through a link", async () => {
  const victim = join(folder, "victim");
  writeFileSync(victim, "untouched");
  symlinkSync(victim, join(folder, "link"));
  expect(() => writePrivateFile(join(folder, "link"), "pid")).toThrow(/ELOOP/);
  for (const how of ["create", "update", "read"] as const) {
    await expect(diskFiles.open(join(folder, "link"), how)).rejects.toThrow(/ELOOP|EEXIST/);
  }
  expect(readFileSync(victim, "utf8")).toBe("untouched");
});
