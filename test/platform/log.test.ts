// What the log holds back: written by a process of its own, since it writes to stderr.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const log = fileURLToPath(new URL("../../agent/platform/log.ts", import.meta.url));

/** The lines that a piece of code writes. */
function lines(code: string): { event: string; cause?: string; source?: string; repeats?: number }[] {
  const script = `import { createLog } from ${JSON.stringify(log)}; const log = createLog("info"); ${code}`;
  const { stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  return stderr
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
}

test("createLog() writes one line of a cause, whatever ports and counts are in its text", () => {
  const written = lines(
    `for (let i = 0; i < 1000; i++) log.warn("cannot read", { source: "a", cause: \`reset by 10.0.0.\${i % 9}:\${i}\` });
     log.warn("cannot read", { source: "b", cause: "reset by 10.0.0.1:1" });`,
  );
  expect(written.map(({ source }) => source)).toEqual(["a", "b"]);
});

test("createLog() bounds the lines of one event whose causes are made up, and leaves others alone", () => {
  const written = lines(
    `const word = (i) => [...String(i)].map((digit) => "abcdefghij"[digit]).join("");
     for (let i = 0; i < 5000; i++) log.error("refused", { cause: word(i) });
     log.error("disk full", { cause: "no space" });
     for (let i = 0; i < 3; i++) log.error("disk full", { cause: "no space" });`,
  );
  expect(written.filter(({ event }) => event === "refused")).toHaveLength(20);
  expect(written.filter(({ event }) => event === "disk full")).toHaveLength(1);
});

test("createLog() never holds back what is no warning", () => {
  expect(lines(`for (let i = 0; i < 50; i++) log.info("started", { cause: "x" });`)).toHaveLength(50);
});
