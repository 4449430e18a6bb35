// The command line as a whole: every command explains itself, errors become text and codes.
import { describe, expect, test } from "vitest";
import { commands } from "../../agent/cli/commands.ts";
import { ArgumentError, describeFailure, UsageError } from "../../agent/cli/common/errors.ts";
import { SourceError } from "../../agent/source.ts";
import { runCommand } from "./capture-io.ts";

describe("every command", () => {
  test.each(commands.map((command) => command.name).filter((name) => name !== "start"))(
    "%s has a help text with examples",
    async (name) => {
      const { stdout, exitCode } = await runCommand([name, "--help"]);
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(new RegExp(`^Usage: tokenwatt ${name}\\b`));
      expect(stdout).toMatch(
        new RegExp(`Examples?:\\n(.*\\n)*?  (.*\\| )?(source <\\()?tokenwatt ${name}\\b`),
      );
    },
  );

  test("registers under the name it is listed with, once", async () => {
    expect(new Set(commands.map((command) => command.name)).size).toBe(commands.length);
    for (const { name } of commands) {
      const { stdout } = await runCommand(["help", name]);
      expect(stdout).toContain(`Usage: tokenwatt ${name}`);
    }
  });
});

describe("describeFailure()", () => {
  test("gives each kind its exit code, with message and hint and no stack", () => {
    const kinds = { misconfigured: 2, absent: 2, transient: 1, ended: 1, restart: 75 } as const;
    for (const [kind, exitCode] of Object.entries(kinds)) {
      const error = new SourceError(kind as keyof typeof kinds, "Cannot read it", { hint: "do this" });
      expect(describeFailure(error)).toEqual({ text: "Cannot read it\nhint: do this", exitCode });
    }
    expect(describeFailure(new UsageError("Cannot"))).toEqual({ text: "Cannot", exitCode: 2 });
  });

  test("keeps the stack of a bug and survives what is no error", () => {
    const bug = describeFailure(new TypeError("x is undefined"));
    expect(bug).toMatchObject({ exitCode: 1, text: expect.stringContaining("program.test.ts") });
    expect(describeFailure("text")).toEqual({ text: "text", exitCode: 1 });
    expect(describeFailure(undefined)).toEqual({ text: "undefined", exitCode: 1 });
  });

  test("system errors read as their message", () => {
    const error = Object.assign(new Error("ENOENT: no such file"), { code: "ENOENT" });
    expect(describeFailure(error)).toEqual({ text: "ENOENT: no such file", exitCode: 1 });
  });

  test("an ArgumentError becomes commander's sentence about the option", async () => {
    expect(new ArgumentError("x").code).toBe("commander.invalidArgument");
    const { stderr } = await runCommand(["economics", "--utilization", "x"]);
    expect(stderr).toContain("option '--utilization <ratio>' argument 'x' is invalid");
  });
});
