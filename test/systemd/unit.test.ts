// The shipped unit against its README and against the program: nothing unexplained, no command that does not exist.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { environmentName } from "../../agent/config/environment.ts";
import { allPaths } from "../../agent/config/key-tree.ts";
import { configJsonSchema } from "../../agent/config/load.ts";
import { parsePath } from "../../agent/config/paths.ts";
import { runCommand } from "../cli/capture-io.ts";

const folder = fileURLToPath(new URL("../../systemd", import.meta.url));
const read = (name: string): string => readFileSync(join(folder, name), "utf8");
const lines = read("tokenwatt.service").split("\n");
const directives = lines.filter((line) => /^[A-Z]\w+=/.test(line)).map((line) => line.split("=", 1)[0] ?? "");

describe("systemd/tokenwatt.service", () => {
  test("has every directive explained in the README", () => {
    const page = read("README.md");
    expect(directives.filter((name) => !new RegExp(`\\b${name}\\b`).test(page))).toEqual([]);
  });

  test("names only commands and options that exist", async () => {
    const commands = lines.flatMap(
      (line) => /^Exec\w+=[+-]*\/usr\/bin\/tokenwatt (.*)$/.exec(line)?.slice(1) ?? [],
    );
    expect(commands.length).toBeGreaterThanOrEqual(3);
    for (const command of commands) {
      const { exitCode, stdout } = await runCommand([...command.split(" "), "--help"]);
      expect(exitCode, command).toBe(0);
      for (const option of command.split(" ").filter((word) => word.startsWith("--")))
        expect(stdout).toContain(option);
    }
  });

  test("lets no exit status loop: what judges the configuration is the main process", () => {
    // RestartPreventExitStatus heeds the main process alone, never ExecStartPre.
    expect(lines.filter((line) => /^ExecStartPre=.*tokenwatt/.test(line))).toEqual([]);
    expect(lines).toContain("RestartPreventExitStatus=2");
  });

  test("has every drop-in in the README, and each says why it exists", () => {
    const page = read("README.md");
    const files = readdirSync(join(folder, "drop-ins"));
    expect(files.length).toBeGreaterThan(0);
    for (const file of files) {
      expect(page).toContain(`\`${file}\``);
      expect(read(`drop-ins/${file}`)).toMatch(/^# .{20,}/);
    }
  });

  test("offers only variables the configuration reads", () => {
    const known = new Set(allPaths(configJsonSchema()).map((path) => environmentName(parsePath(path) ?? [])));
    const offered = [...read("tokenwatt.env").matchAll(/^# (TOKENWATT_\w+)=/gm)].map(
      (match) => match[1] ?? "",
    );
    expect(offered.filter((name) => name !== "TOKENWATT_CONFIG" && !known.has(name))).toEqual([]);
  });
});
