// The completion scripts, run by the shell they are for.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { commands } from "../../agent/cli/commands.ts";
import { runCommand } from "./capture-io.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-completion-"));
const script = join(folder, "tokenwatt.bash");

beforeAll(async () => {
  const { stdout, exitCode } = await runCommand(["completion", "bash"]);
  expect(exitCode).toBe(0);
  writeFileSync(script, stdout);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What bash offers for the last of these words. */
function complete(...words: string[]): string[] {
  const quoted = ["tokenwatt", ...words].map((word) => `'${word}'`).join(" ");
  const program = `source '${script}'; compopt() { :; }; COMP_WORDS=(${quoted}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _tokenwatt; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync("bash", ["-euc", program], { encoding: "utf8", cwd: folder })
    .split("\n")
    .filter(Boolean);
}

const hasBash = existsSync("/bin/bash");
if (!hasBash) console.warn("SKIPPED: completion in bash, because /bin/bash is not here");

describe.skipIf(!hasBash)("tokenwatt completion bash", () => {
  test("offers every command", () => {
    const offered = complete("");
    for (const { name } of commands) if (name !== "start") expect(offered).toContain(name);
  });

  test("offers the verbs and options of the command typed", () => {
    expect(complete("config", "")).toEqual(["check", "print", "schema", "init", "--help"]);
    expect(complete("config", "check", "--q")).toEqual(["--quiet"]);
    expect(complete("completion", "")).toContain("zsh");
  });

  test("offers files for --config and keys for --set", () => {
    expect(complete("doctor", "--config", "tokenw")).toEqual(["tokenwatt.bash"]);
    expect(complete("doctor", "--set", "export.prom")).toContain("export.prometheus.listen=");
  });

  test("offers nothing where anything may stand", () => {
    expect(complete("economics", "--utilization", "")).toEqual([]);
  });
});

describe("tokenwatt completion fish", () => {
  test("has a rule for every command and option, each quoted to its end", async () => {
    const { stdout } = await runCommand(["completion", "fish"]);
    const rules = stdout.split("\n").filter((line) => line.startsWith("complete -c tokenwatt -n"));
    for (const { name } of commands) {
      if (name !== "start") expect(rules.join("\n")).toContain(` -a ${name} -d '`);
    }
    expect(rules.join("\n")).toMatch(/'\/doctor'" -l config -s c -r -F -d '/);
    for (const line of rules) expect((line.replaceAll("\\'", "").match(/'/g) ?? []).length % 2, line).toBe(0);
  });
});

describe("tokenwatt completion zsh", () => {
  test("has a function for every command and no unbalanced quote", async () => {
    const { stdout } = await runCommand(["completion", "zsh"]);
    expect(stdout.startsWith("#compdef tokenwatt\n")).toBe(true);
    expect(stdout).toContain("_tokenwatt_config_check() {");
    for (const line of stdout.split("\n")) expect((line.match(/'/g) ?? []).length % 2, line).toBe(0);
  });

  test("refuses a shell it does not know, and names those it does", async () => {
    const { stderr, exitCode } = await runCommand(["completion", "tcsh"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("bash, zsh, fish");
  });
});
