// The separate suite: `npm run test:e2e`. Slow, uses processes, sockets and tools that may be absent; each file says
// loudly what it skips and why. One file at a time, so that measurements mean something, but for some long ones that take
// nothing from each other. These are real programs in real time: where CI runs them, one that fails is tried once more, and the
// report names it ("retry x1").
import { defineConfig } from "vitest/config";

/** One waits for minutes, the others compress, simulate and judge for minutes; nothing in them is measured in real time. */
const together = [
  "soak",
  "pack-artefacts",
  "pack-rpm",
  "pack-deb",
  "pack-npm",
  "pack-links",
  "accuracy-phases",
  "accuracy-capacity",
  "accuracy-capacity-bounds",
  "deploy-chart",
  "deploy-clickhouse",
  "focus",
].map((name) => `test/e2e/${name}.e2e.ts`);

export default defineConfig({
  test: {
    testTimeout: 900_000,
    hookTimeout: 900_000,
    retry: process.env["CI"] === undefined ? 0 : 1,
    reporters: ["verbose"],
    disableConsoleIntercept: true,
    projects: [
      {
        extends: true,
        test: {
          name: "alone",
          include: ["test/e2e/**/*.e2e.ts"],
          exclude: together,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: { name: "together", include: together, maxWorkers: 2, sequence: { groupOrder: 2 } },
      },
    ],
  },
});
