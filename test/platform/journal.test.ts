import { spawnSync } from "node:child_process";
import { fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { withPriority } from "../../agent/platform/journal.ts";
import { journalLine } from "../../agent/platform/log.ts";

const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));

test("withPriority() marks each line of a text and no empty one", () => {
  expect(withPriority("Cannot listen\nhint: another port\n", 3)).toBe(
    "<3>Cannot listen\n<3>hint: another port\n",
  );
});

test.each([
  [20, 7],
  [30, 6],
  [40, 4],
  [50, 3],
])("journalLine() gives level %i the priority %i", (level, priority) => {
  const line = `{"level":${level},"time":"2026-01-01T00:00:00.000Z","event":"x"}\n`;
  expect(journalLine(line)).toBe(`<${priority}>${line}`);
});

test("a failure is told to the journal as an error, and to anybody else as plain text", () => {
  const folder = mkdtempSync(join(tmpdir(), "journal-"));
  try {
    const path = join(folder, "stream");
    const stream = openSync(path, "w");
    const { dev, ino } = fstatSync(stream);
    const fail = (named: string): void => {
      const env = { PATH: process.env["PATH"], JOURNAL_STREAM: named };
      const config = ["config", "check", "--config", join(folder, "absent.yaml")];
      expect(
        spawnSync(process.execPath, [main, ...config], { env, stdio: ["ignore", "ignore", stream] }).status,
      ).toBe(2);
    };
    fail(`${dev}:${ino}`);
    expect(readFileSync(path, "utf8")).toMatch(/^<3>Cannot read /);
    const before = readFileSync(path, "utf8").length;
    fail(`${dev}:${ino + 1}`);
    expect(readFileSync(path, "utf8").slice(before)).toMatch(/^Cannot read /);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
