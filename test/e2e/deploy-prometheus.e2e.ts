// promtool's judgement of the shipped rules: they parse, and every alert fires and keeps quiet as its cases say.
// The cases are then run against alerts that always and never fire, to see that they can fail.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { deployFolder, deployTool, runTool } from "./deploy-tools.ts";

const promtool = deployTool("promtool");
const prometheus = join(deployFolder, "prometheus");
const files = (folder: string) =>
  readdirSync(join(folder, "tests")).map((file) => join(folder, "tests", file));

describe.skipIf(promtool === undefined)("deploy/prometheus", () => {
  const copy = mkdtempSync(join(tmpdir(), "rules-"));
  afterAll(() => rmSync(copy, { recursive: true }));
  const run = (...args: string[]) => runTool(promtool ?? "", args);

  test.each(["recording-rules.yaml", "alerts.yaml"])("%s parses", (file) => {
    expect(run("check", "rules", "--lint=all", "--lint-fatal", join(prometheus, file))).toMatchObject({
      status: 0,
    });
  });

  test("every alert fires and keeps quiet as its cases say", () => {
    const { status, text } = run("test", "rules", ...files(prometheus));
    expect(status, text).toBe(0);
  });

  test.each([
    ["never", "vector(0) > 1", / fires/],
    ["always", "vector(1)", /does not fire/],
  ])("each case notices an alert that fires %s", (_, expr, named) => {
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
    const { status, text } = run("test", "rules", ...files(copy));
    const names = files(copy).flatMap((file) =>
      parse(readFileSync(file, "utf8")).tests.map((one: { name: string }) => one.name),
    );
    expect(status).not.toBe(0);
    const failed = text.match(/got:/g)?.length;
    expect(failed).toBe(names.filter((name: string) => named.test(name)).length);
  });
});
