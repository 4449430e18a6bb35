// The program as it is started: exit codes, streams, and what a start may cost.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { commands } from "../agent/cli/commands.ts";

const main = fileURLToPath(new URL("../agent/main.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "tokenwatt-main-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(
  argv: readonly string[],
  env: NodeJS.ProcessEnv = {},
  flags: readonly string[] = [],
): Promise<Run> {
  return new Promise((resolve) => {
    const options = { env: { PATH: process.env["PATH"], HOME: folder, ...env }, timeout: 30_000 };
    execFile(process.execPath, [...flags, main, ...argv], options, (error, stdout, stderr) => {
      resolve({
        code: typeof error?.code === "number" ? error.code : error === null ? 0 : -1,
        stdout,
        stderr,
      });
    });
  });
}

describe("tokenwatt", () => {
  test("--version prints the version on stdout and nothing else", async () => {
    expect(await run(["--version"])).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
      stderr: "",
    });
  });

  test("--version loads no package but commander", async () => {
    const { stdout, stderr } = await run(["--version"], { NODE_DEBUG: "module,esm" });
    const packages = new Set(
      [...`${stdout}${stderr}`.matchAll(/node_modules\/((?:@[\w.-]+\/)?[\w.-]+)/g)].map((match) => match[1]),
    );
    expect([...packages]).toEqual(["commander"]);
  });

  test("--help lists every command and the exit codes", async () => {
    const { code, stdout } = await run(["--help"]);
    expect(code).toBe(0);
    for (const { name } of commands) if (name !== "start") expect(stdout).toContain(`\n  ${name} `);
    expect(stdout).toContain("75 only a restart helps");
  });

  test("an unknown command or option ends with 2, talk on stderr, and a did-you-mean", async () => {
    const command = await run(["economcs"]);
    expect(command).toMatchObject({ code: 2, stdout: "" });
    expect(command.stderr).toContain("Did you mean economics?");
    expect(await run(["economics", "--jsno"])).toMatchObject({ code: 2, stdout: "" });
  });

  test("a bad configuration ends with 2 and all of its problems", async () => {
    const file = join(folder, "bad.yaml");
    writeFileSync(file, "logLevel: loud\nrates: { gpuMs: x }\n");
    const { code, stdout, stderr } = await run(["config", "check", "--config", file]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(`at: ${file}:1:1`);
    expect(stderr).toContain(`at: ${file}:2:10`);
    expect(stderr).not.toContain("    at ");
  });

  test("data goes to stdout alone, so that it can be piped", async () => {
    const { stdout, stderr } = await run(["config", "print", "--json"]);
    expect(JSON.parse(stdout)).toHaveProperty("config.rates.gpuMs", 1000);
    expect(stderr).toBe("");
  });
});
