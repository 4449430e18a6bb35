// `npm run bench [name ...]`: runs every benchmark of this folder, or the named ones, each in a process of its own.
// A benchmark prints ratios against a named alternative or against real time; nothing here asserts a time.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { MALLOC, NODE_FLAGS } from "../../deploy/pack/runtime.ts";

const folder = new URL("./", import.meta.url);
const wanted = process.argv.slice(2);
const names = readdirSync(folder)
  .filter((file) => file.endsWith(".ts") && file !== "main.ts")
  .map((file) => file.slice(0, -3))
  .filter((name) => wanted.length === 0 || wanted.includes(name));
const unknown = wanted.filter((name) => !names.includes(name));
if (unknown.length > 0) {
  console.error(`Cannot run benchmark ${unknown.join(", ")}: there is ${readdirSync(folder).join(", ")}`);
  process.exit(2);
}
for (const name of names) {
  console.log(`\n== ${name}`);
  // With the flags the agent is started with: memory and the collector's time are part of what is measured.
  const words = [...NODE_FLAGS, "--expose-gc", fileURLToPath(new URL(`${name}.ts`, folder))];
  const run = spawnSync(process.execPath, words, { stdio: "inherit", env: { ...process.env, ...MALLOC } });
  if (run.status !== 0) process.exitCode = 1;
}
