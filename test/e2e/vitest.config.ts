// The separate suite: `npm run test:e2e`. Slow, uses processes, sockets and tools that may be absent; each file says
// loudly what it skips and why. One file at a time, so that measurements mean something. These are real programs in real time: where
// CI runs them, one that fails is tried once more, and the report names it ("retry x1").
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/e2e/**/*.e2e.ts"],
    fileParallelism: false,
    retry: process.env["CI"] === undefined ? 0 : 1,
    testTimeout: 900_000,
    hookTimeout: 900_000,
    reporters: ["verbose"],
    disableConsoleIntercept: true,
  },
});
