// The flags that keep the daemon small are in every way of starting it.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { MALLOC, NODE_FLAGS } from "../../deploy/pack/runtime.ts";

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("bin/tokenwatt starts node with the flags and tells glibc what the image tells it", () => {
  const launcher = read("deploy/pack/tokenwatt.sh");
  expect(launcher).toContain(`bin/node" ${NODE_FLAGS.join(" ")} `);
  for (const [name, value] of Object.entries(MALLOC)) {
    expect(launcher).toContain(`export ${name}="\${${name}:-${value}}"\n`);
  }
});

test("npm start does the same from source", () => {
  const { start } = JSON.parse(read("package.json")).scripts as { start: string };
  expect(start).toContain(`exec node ${NODE_FLAGS.join(" ")} agent/main.ts`);
  for (const [name, value] of Object.entries(MALLOC)) expect(start).toContain(` ${name}=${value} `);
});

test("the unit starts bin/tokenwatt, not node", () => {
  expect(read("systemd/tokenwatt.service")).toMatch(/^ExecStart=\/usr\/bin\/tokenwatt run$/m);
});
