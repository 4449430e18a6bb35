// The commands of systemd/README.md as they stand there, typed on a booted Debian that has the tarball in /opt and nothing
// else of ours: they must end in a running unit.
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { packFolder } from "../tools/packed.ts";
import type { Machine } from "./systemd-boot/machine.ts";
import { bootFolder, whyNot } from "./systemd-boot/machine.ts";
import { bareRoot } from "./systemd-boot/package.ts";

const reason = whyNot();
if (reason !== undefined) console.warn(`SKIPPED: the tarball on a booted system, because ${reason}`);

const page = readFileSync(fileURLToPath(new URL("../../systemd/README.md", import.meta.url)), "utf8");
const commands = (/```sh\n([\s\S]*?)```/.exec(page)?.[1] ?? "").trim().split("\n");

describe.skipIf(reason !== undefined)("systemd/README.md", () => {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-tarball-"));
  const root = join(folder, "root");
  let machine: Machine;

  beforeAll(async () => {
    bareRoot(root);
    cpSync(packFolder(join(folder, "dist")), join(root, "opt/tokenwatt-1"), { recursive: true });
    machine = await bootFolder(root);
  }, 600_000);
  afterAll(() => {
    machine?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test("installs the unit from the tarball by its own commands", async () => {
    expect(commands.length).toBeGreaterThan(6);
    for (const command of commands) {
      const { output, status } = machine.run("sh", "-ec", `cd /opt/tokenwatt-1/systemd; ${command}`);
      // doctor ends with 2: this machine has no GPU.
      expect([command, status, output]).toEqual([
        command,
        command.startsWith("tokenwatt doctor") ? 2 : 0,
        expect.anything(),
      ]);
    }
    expect(machine.show("ActiveState")).toBe("active");
    expect(machine.show("UnitFileState")).toBe("enabled");
    expect(machine.run("stat", "-c", "%U", `/proc/${machine.show("MainPID")}`).output).toBe("tokenwatt\n");
  });
});
