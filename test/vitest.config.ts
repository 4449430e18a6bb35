// The suite of `npm test`. Laws draw from one seed here, so that a change is judged by what it changes and not by a new draw;
// `npx vitest run` of a folder draws anew each time.
import { defineConfig } from "vitest/config";

/** The files of the pure rooms share a process: to begin one for each took a third of their time. */
const shared = ["test/correlate/**/*.test.ts", "test/meter/**/*.test.ts"];

export default defineConfig({
  test: {
    globalSetup: ["test/tools/temporary-folder.ts"],
    setupFiles: ["test/tools/one-seed.ts"],
    // Nothing is timed: a slow machine is no fault.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: { name: "apart", include: ["test/**/*.test.ts"], exclude: shared },
      },
      { extends: true, test: { name: "together", include: shared, isolate: false } },
    ],
  },
});
