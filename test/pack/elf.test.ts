// Stripping, on the two ELF files every machine that runs this has: the running node and koffi's addon.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { stripElf } from "../../deploy/pack/elf.ts";

describe("stripElf()", () => {
  test("gives a smaller node that runs, and leaves it alone the second time", () => {
    const whole = readFileSync(process.execPath);
    const stripped = stripElf(whole);
    expect(stripped.length).toBeLessThan(whole.length);
    expect(stripElf(stripped).equals(stripped)).toBe(true);
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-strip-"));
    try {
      writeFileSync(join(folder, "node"), stripped, { mode: 0o755 });
      const run = spawnSync(join(folder, "node"), ["-p", "process.version"], { encoding: "utf8" });
      expect(run.stdout.trim()).toBe(process.version);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("refuses what is no ELF file", () => {
    expect(() => stripElf(Buffer.from("#!/bin/sh\nexit 0\n"))).toThrow("not a 64-bit little-endian ELF file");
  });
});
