// Ray Serve LLM, and other programs that let Ray publish their engine's counters (vllm/v1/metrics/ray_wrappers.py; docs.ray.io,
// Serve LLM observability, 2.48 to 2.5x): on Ray's metrics port, one page a node, `ray_vllm_*`, until 2.47 `ray_vllm:*`, and
// `ray_sglang_*`. The engines' own pages do not exist there. Replicas (ReplicaId, WorkerId) count different tokens and are
// summed per model; a replica's series vanish with it. Since 2.10 Ray shows each counter as gauge too, without `_total`
// (https://github.com/ray-project/ray/pull/43795): that is the same counter. Volume as the engine's.
import type { MetricPage } from "../source.ts";
import type { PageReadings } from "./page/readings.ts";
import { textServer } from "./page/server.ts";
import { readSglang, sglangFamilies, sglangLabels } from "./sglang.ts";
import { readVllm, vllmFamilies, vllmLabels } from "./vllm.ts";

const VLLM = "ray_vllm_";
const SGLANG = "ray_sglang_";

/** A Ray node's engines. */
export const rayServeLlm = textServer({
  name: "ray-serve-llm",
  family: "engine",
  port: 8080,
  path: "/metrics",
  volume: "step",
  labels: { modelLabel: "model_name" },
  families: [...vllmFamilies(VLLM), ...sglangFamilies(SGLANG)],
  recognises: (page: MetricPage) =>
    vllmLabels(page, VLLM) === undefined && sglangLabels(page, SGLANG) === undefined
      ? undefined
      : "an engine's families under ray_",
  read: (readings) => {
    if (vllmLabels(readings.page, VLLM) !== undefined) readVllm(readings, VLLM);
    if (sglangLabels(readings.page, SGLANG) !== undefined) readSglangAtEnd(readings);
  },
});

/** SGLang's counters move when a request ends, unlike vLLM's on the same page. */
function readSglangAtEnd(readings: PageReadings): void {
  readSglang(readings, SGLANG);
  for (const { labels } of readings.counters(`${SGLANG}generation_tokens`))
    readings.of(labels).volume("finish");
}
