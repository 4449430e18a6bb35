// The suite of `npm test`. Laws draw from one seed here, so that a change is judged by what it changes and not by a new draw;
// `npx vitest run` of a folder draws anew each time.
import { defineConfig } from "vitest/config";

/** Their files share a process: they change nothing in it, and to begin one for each took a third of their time. */
const shared = ["config", "correlate", "export", "host", "meter", "page", "policy", "recording", "store"].map(
  (room) => `test/${room}/**/*.test.ts`,
);

export default defineConfig({
  test: {
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
