// The manual pages name everything there is, and groff has nothing to say against them.
import { spawnSync } from "node:child_process";
import { beforeAll, describe, expect, test } from "vitest";
import { commands } from "../../agent/cli/commands.ts";
import { runCommand } from "./capture-io.ts";

const groff = spawnSync("groff", ["--version"]).status === 0;
if (!groff) console.warn("SKIPPED: groff's judgement of the manual pages, because groff is not here");

describe.each(["1", "5"] as const)("tokenwatt manual %s", (page) => {
  let text = "";
  beforeAll(async () => {
    const { stdout, exitCode } = await runCommand(["manual", page]);
    expect(exitCode).toBe(0);
    text = stdout;
  });

  test.skipIf(!groff)("formats without a warning", () => {
    const { stderr, stdout } = spawnSync("groff", ["-man", "-Tutf8", "-ww"], {
      input: text,
      encoding: "utf8",
    });
    expect(stderr).toBe("");
    expect(stdout).toContain("TOKENWATT");
  });

  test("has no line that roff would take for a request by accident", () => {
    const requests = new Set(
      text.split("\n").flatMap((line) => (/^['.]/.test(line) ? [line.split(" ")[0]] : [])),
    );
    expect(
      [...requests].filter((request) => !/^\.(TH|SH|SS|TP|B|BR|I|RS|RE|br)$/.test(request ?? "")),
    ).toEqual([]);
  });
});

describe("tokenwatt manual", () => {
  test("describes every command, and every option of its help", async () => {
    const { stdout } = await runCommand(["manual"]);
    const page = stdout.replaceAll("\\-", "-");
    for (const { name } of commands.filter((command) => command.name !== "start")) {
      expect(page).toContain(`.SS ${name} `);
      const help = (await runCommand([name, "--help"])).stdout;
      for (const [option] of help.matchAll(/(?<=^ {2}(-\w, )?)--[\w-]+/gm)) {
        if (option !== "--help") expect(page, `${name} ${option}`).toContain(option);
      }
    }
  });

  test("describes every key of the configuration with its variable", async () => {
    const { stdout } = await runCommand(["manual", "5"]);
    const { stdout: variables } = await runCommand(["config", "print", "--env"]);
    for (const line of variables.trim().split("\n")) expect(stdout).toContain(line.split(/\s+/)[0]);
  });
});
