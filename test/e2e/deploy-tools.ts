// Tools of the deploy suite: where install-tools.sh put them, or on the PATH. What is missing is said loudly.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { toolsFolder } from "./tools-folder.ts";

export const deployFolder = fileURLToPath(new URL("../../deploy", import.meta.url));

/** The path of a tool, undefined when it is not here. */
export function deployTool(name: string): string | undefined {
  const path = join(toolsFolder, name);
  if (existsSync(path)) return path;
  const found = spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).stdout.trim();
  if (found !== "") return found;
  console.warn(
    `SKIPPED: ${name} is neither in ${toolsFolder} nor on the PATH; get it with: sh test/e2e/install-tools.sh`,
  );
  return undefined;
}

/** Runs a tool and returns its status and everything it said. */
export function runTool(
  path: string,
  args: readonly string[],
  input?: string,
): { status: number | null; text: string } {
  const { status, stdout, stderr, error } = spawnSync(path, args, {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
    ...(input === undefined ? {} : { input }),
  });
  return { status, text: `${stdout ?? ""}${stderr ?? ""}${error === undefined ? "" : String(error)}` };
}
