// Aphrodite Engine, which keeps vLLM's counters under its own prefix (aphrodite/v1/metrics/loggers.py, b42eeec, 0.20; before
// 0.10 aphrodite/engine/metrics.py). Volume and progress per engine step; input includes prefix hits, split since 0.20.
import { textServer } from "./page/server.ts";
import { readVllm, vllmFamilies, vllmLabels, vllmRanks } from "./vllm.ts";

const PREFIX = "aphrodite_";

/** Aphrodite behind its OpenAI-compatible HTTP server. */
export const aphrodite = textServer({
  name: "aphrodite",
  family: "engine",
  port: 2242,
  path: "/metrics",
  volume: "step",
  labels: { modelLabel: "model_name" },
  families: vllmFamilies(PREFIX),
  ranks: [vllmRanks(PREFIX)],
  recognises: (page) => (vllmLabels(page, PREFIX) === undefined ? undefined : "aphrodite:* families"),
  read: (readings) => readVllm(readings, PREFIX),
});
