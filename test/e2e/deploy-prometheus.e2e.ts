// promtool's judgement of the shipped rules: they parse, and every alert fires and keeps quiet as its cases say.
// The cases are then run against alerts that always and never fire, to see that they can fail.
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { deployFolder, deployTool, runTool } from "./deploy-tools.ts";

const promtool = deployTool("promtool");
const prometheus = join(deployFolder, "prometheus");
const files = (folder: string) =>
  readdirSync(join(folder, "tests")).map((file) => join(folder, "tests", file));

interface Cases {
  readonly tests: readonly { readonly name: string }[];
}

interface Said {
  readonly stdout: string;
  readonly stderr: string;
}

describe.skipIf(promtool === undefined)("deploy/prometheus", () => {
  const copy = mkdtempSync(join(tmpdir(), "rules-"));
  afterAll(() => rmSync(copy, { recursive: true }));
  const run = (...args: string[]) => runTool(promtool ?? "", args);

  test.each(["recording-rules.yaml", "alerts.yaml"])("%s parses", (file) => {
    expect(run("check", "rules", "--lint=all", "--lint-fatal", join(prometheus, file))).toMatchObject({
      status: 0,
    });
  });

  /** What promtool says of the cases of a folder, and whether all hold. A file at a time keeps one core busy: all run at once. */
  const judged = async (folder: string): Promise<{ readonly hold: boolean; readonly text: string }> => {
    const said = await Promise.allSettled(
      files(folder).map((file) => promisify(execFile)(promtool ?? "", ["test", "rules", file])),
    );
    const words = said.map((one) => {
      const { stdout, stderr } = (one.status === "fulfilled" ? one.value : one.reason) as Said;
      return `${stdout}${stderr}`;
    });
    return { hold: said.every(({ status }) => status === "fulfilled"), text: words.join("") };
  };

  test("every alert fires and keeps quiet as its cases say", async () => {
    const { hold, text } = await judged(prometheus);
    expect(hold, text).toBe(true);
  });

  test.each([
    ["never", "vector(0) > 1", / fires/],
    ["always", "vector(1)", /does not fire/],
  ])("each case notices an alert that fires %s", async (_, expr, named) => {
    cpSync(prometheus, copy, { recursive: true });
    const rules = parse(readFileSync(join(prometheus, "alerts.yaml"), "utf8"));
    for (const group of rules.groups) {
      group.rules = group.rules.map(({ alert, labels }: { alert: string; labels: object }) => ({
        alert,
        labels,
        expr,
      }));
    }
    writeFileSync(join(copy, "alerts.yaml"), stringify(rules));
    // These alerts read no series: what is recorded, and the cases that judge it, are left out.
    writeFileSync(join(copy, "recording-rules.yaml"), "groups: []\n");
    const names: string[] = [];
    for (const file of files(copy)) {
      const { tests, ...rest } = parse(readFileSync(file, "utf8")) as Cases;
      const cases = tests.filter(({ name }) => name.includes(" fire"));
      names.push(...cases.map(({ name }) => name));
      writeFileSync(file, stringify({ ...rest, tests: cases }));
    }
    const { hold, text } = await judged(copy);
    expect(hold).toBe(false);
    const failed = text.match(/got:/g)?.length;
    expect(failed).toBe(names.filter((name: string) => named.test(name)).length);
  });
});
