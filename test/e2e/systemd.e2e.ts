// systemd's own judgement of the shipped unit and of every drop-in: it verifies, and its exposure is at most 1.7.
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const source = fileURLToPath(new URL("../../systemd", import.meta.url));
const probe = spawnSync("systemd-analyze", ["--version"], { encoding: "utf8" });
const version = Number(/systemd (\d+)/.exec(probe.stdout ?? "")?.[1] ?? 0);
const usable = version >= 250;
if (!usable) {
  console.warn(
    `SKIPPED: unit verification, because systemd-analyze 250 or newer is not here (found ${version || "none"})`,
  );
}

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-unit-"));
const unit = join(folder, "tokenwatt.service");

/** The unit with the program's path replaced by one that exists here, as verify wants. */
function prepare(...dropIns: string[]): void {
  const program = join(folder, "tokenwatt");
  writeFileSync(program, "#!/bin/sh\n");
  chmodSync(program, 0o755);
  const text = readFileSync(join(source, "tokenwatt.service"), "utf8").replaceAll(
    "/usr/bin/tokenwatt",
    program,
  );
  // User and group come from sysusers at installation.
  writeFileSync(unit, text.replaceAll(/^(User|Group)=tokenwatt$/gm, "$1=root"));
  rmSync(`${unit}.d`, { recursive: true, force: true });
  if (dropIns.length > 0)
    cpSync(join(source, "drop-ins"), `${unit}.d`, {
      recursive: true,
      filter: (path) => !path.endsWith(".conf") || dropIns.some((name) => path.endsWith(name)),
    });
}

function verify(): { status: number | null; complaints: string[] } {
  const { status, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", unit], { encoding: "utf8" });
  return { status, complaints: stderr.split("\n").filter((line) => line.includes("tokenwatt")) };
}

function exposure(): number {
  const unitText = readFileSync(unit, "utf8").replaceAll(/^(User|Group)=root$/gm, "$1=tokenwatt");
  writeFileSync(unit, unitText);
  const { stdout } = spawnSync("systemd-analyze", ["security", "--offline=true", "--no-pager", unit], {
    encoding: "utf8",
  });
  return Number(/Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
}

describe.skipIf(!usable)("systemd/tokenwatt.service", () => {
  beforeAll(() => prepare());
  afterAll(() => rmSync(folder, { recursive: true }));

  test("verifies without a complaint", () => {
    prepare();
    expect(verify()).toEqual({ status: 0, complaints: [] });
  });

  test("verify would see a mistake", () => {
    prepare();
    writeFileSync(unit, readFileSync(unit, "utf8").replace("NoNewPrivileges=yes", "NoNewPriviliges=yes"));
    expect(verify().complaints.join()).toContain("NoNewPriviliges");
  });

  test("exposes at most 1.7", () => {
    prepare();
    expect(exposure()).toBeLessThanOrEqual(1.7);
  });

  test.each(readdirSync(join(source, "drop-ins")))("verifies with %s", (name) => {
    prepare(name);
    expect(verify()).toEqual({ status: 0, complaints: [] });
  });

  test("sysusers accepts the user", () => {
    const root = mkdtempSync(join(tmpdir(), "tokenwatt-sysusers-"));
    try {
      mkdirSync(join(root, "etc"));
      execFileSync("systemd-sysusers", [`--root=${root}`, join(source, "tokenwatt.sysusers")], {
        stdio: "pipe",
      });
      expect(readFileSync(join(root, "etc/passwd"), "utf8")).toMatch(/^tokenwatt:x:\d+:\d+:/m);
    } finally {
      rmSync(root, { recursive: true });
    }
  });
});
