// The suite of `npm test`. Laws draw from one seed here, so that a change is judged by what it changes and not by a new draw;
// `npx vitest run` of a folder draws anew each time.
import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

/** Files that have a process each. All others share a few: to begin one and load the program for each took a third of their time. */
const apart = [
  // These replace a module, the environment or the umask, watch every socket of the process, or count what it holds: objects,
  // sockets, buffers to reuse. What other files left to end by itself would be seen.
  "discovery/host",
  "discovery/kubernetes-gpus",
  "export/http",
  "export/otlp/*",
  "meter/churn",
  "page/exchange",
  "page/peer",
  "platform/grpc-proxy",
  "platform/kept-shapes",
  "platform/process",
  "platform/tls-replaced",
  "servers/receive/bounds",
  "servers/receive/listener",
  "store/private-files",
  "store/spool/*",
  // These are the longest: they begin first. Most wait for children, sockets and disks, so there is a process more than cores.
  "cli/checks/gpu",
  "cli/measure",
  "daemon/kill-law",
  "discovery/discovery",
  "gpu/*",
  "gpu/nvml/*",
  "servers/receive/tls",
  "simulator/*",
].map((name) => `test/${name}.test.ts`);

export default defineConfig({
  test: {
    globalSetup: ["test/tools/temporary-folder.ts"],
    setupFiles: ["test/tools/one-seed.ts"],
    // Nothing is timed: a slow machine is no fault.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: availableParallelism() + 1,
    projects: [
      { extends: true, test: { name: "apart", include: apart } },
      {
        extends: true,
        test: {
          name: "together",
          include: ["test/**/*.test.ts"],
          exclude: apart,
          isolate: false,
          // What a test replaces is put back before the next.
          restoreMocks: true,
          unstubEnvs: true,
          unstubGlobals: true,
        },
      },
    ],
  },
});
