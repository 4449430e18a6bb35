// The suite of `npm test`. Laws draw from one seed here, so that a change is judged by what it changes and not by a new draw;
// `npx vitest run` of a folder draws anew each time.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    setupFiles: ["test/tools/one-seed.ts"],
    // Nothing is timed: a slow machine is no fault.
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
