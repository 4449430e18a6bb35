// `npm run bench [name ...]`: runs every benchmark of this folder, or the named ones, each in a process of its own.
// A benchmark prints ratios against a named alternative or against real time; nothing here asserts a time.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

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
  const run = spawnSync(process.execPath, ["--expose-gc", fileURLToPath(new URL(`${name}.ts`, folder))], {
    stdio: "inherit",
  });
  if (run.status !== 0) process.exitCode = 1;
}
