// Completions loaded by the shells they are for, and the manual pages by man: what the packages install.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "completion-"));
const missing = (tool: string): boolean => {
  const absent = spawnSync(tool, ["--version"]).error !== undefined;
  if (absent) console.warn(`SKIPPED: ${tool}, because it is not installed`);
  return absent;
};
const tokenwatt = (...words: string[]): string =>
  spawnSync(process.execPath, [main, ...words], { encoding: "utf8" }).stdout;

beforeAll(() => {
  for (const shell of ["bash", "zsh", "fish"]) {
    mkdirSync(join(folder, shell));
    const name = { bash: "tokenwatt", zsh: "_tokenwatt", fish: "tokenwatt.fish" }[shell] ?? "";
    writeFileSync(join(folder, shell, name), tokenwatt("completion", shell));
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

test.skipIf(missing("shellcheck"))("shellcheck has nothing to say on bash's", () => {
  const { stdout, status } = spawnSync("shellcheck", ["-s", "bash", join(folder, "bash/tokenwatt")], {
    encoding: "utf8",
  });
  expect([status, stdout]).toEqual([0, ""]);
});

test.skipIf(missing("zsh"))("zsh loads its file from fpath and completes a typed word", () => {
  const load = `fpath=(${folder}/zsh $fpath); autoload -Uz compinit; compinit -u -d ${folder}/dump`;
  const script = `${load}; print -r -- $_comps[tokenwatt]
zmodload zsh/zpty; zpty z zsh -f -i
zpty -w z "${load.replaceAll("$", "\\$")}; PS1=; print loaded"
zpty -r -m z line '*loaded*loaded*'
zpty -w -n z $'tokenwatt config sch\t'
zpty -r -m z line '*schema*'; print -r -- $line`;
  const { stdout, stderr } = spawnSync("zsh", ["-fc", script], { encoding: "utf8", timeout: 30_000 });
  expect(stdout.split("\n")[0], stderr).toBe("_tokenwatt");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal is sent
  expect(stdout.replaceAll(/\u001b\[[0-9;?]*[A-Za-z]/g, "")).toContain("config schema");
});

describe.skipIf(missing("fish"))("fish", () => {
  const complete = (line: string): string[] => {
    const script = `source ${folder}/fish/tokenwatt.fish; complete -C '${line}'`;
    const { stdout, stderr } = spawnSync("fish", ["--no-config", "-c", script], {
      encoding: "utf8",
      cwd: folder,
      env: { ...process.env, HOME: folder },
    });
    expect(stderr).toBe("");
    return stdout.split("\n").filter(Boolean);
  };

  test("offers commands, verbs, options, keys and files, and nothing where anything may stand", () => {
    expect(complete("tokenwatt do")).toEqual(["doctor\tcheck this host and say what to do"]);
    expect(complete("tokenwatt config ").map((line) => line.split("\t")[0])).toEqual([
      "check",
      "init",
      "print",
      "schema",
    ]);
    expect(complete("tokenwatt config check --q").join()).toContain("--quiet");
    expect(complete("tokenwatt doctor --set export.prometheus.l").join()).toContain(
      "export.prometheus.listen=",
    );
    expect(complete("tokenwatt completion ")).toEqual(["bash", "fish", "zsh"]);
    expect(complete("tokenwatt doctor --config zs")).toEqual(["zsh/"]);
    expect(complete("tokenwatt economics --utilization ")).toEqual([]);
  });
});

describe.skipIf(missing("man"))("the manual pages", () => {
  test.each(["1", "5"])("section %s is formatted by man without a warning", (section) => {
    const path = join(folder, `tokenwatt.${section}`);
    writeFileSync(path, tokenwatt("manual", section));
    const { status, stderr, stdout } = spawnSync("man", ["--warnings=all", "-P", "cat", "-l", path], {
      encoding: "utf8",
      env: { ...process.env, MANWIDTH: "100", LC_ALL: "C.UTF-8" },
      maxBuffer: 1 << 26,
    });
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toContain("tokenwatt");
  });
});
