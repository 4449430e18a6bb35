import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const module = fileURLToPath(new URL("../../agent/platform/process-name.ts", import.meta.url));

test("nameProcess() changes what ps and the kernel call it, and not its command line", () => {
  const script = `import { readFileSync } from "node:fs";
import { nameProcess } from ${JSON.stringify(module)};
nameProcess("tokenwatt");
console.log(readFileSync("/proc/self/comm", "utf8").trim(), readFileSync("/proc/self/cmdline", "utf8").includes("--input-type"));`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  expect(stdout).toBe("tokenwatt true\n");
});
