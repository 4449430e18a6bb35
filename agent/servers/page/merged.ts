// Pages that show engines of other hosts: a router's merged page (`/engine_metrics` of smg, of sglang-router and of vLLM's
// router adds `worker_addr`: https://github.com/sgl-project/sglang/pull/11456), Prometheus' own federation page (`job` and
// `instance` on every series) and GPUStack's `/metrics/raw` (`model_instance_id`). Read as one engine they would count the
// whole fleet's tokens against this host's GPUs, so they are recognised as no engine and refused where configured.
import type { MetricPage } from "../../source.ts";
import type { Labels } from "./labels.ts";

/** What merged a page of an engine's families, as a sentence; undefined for a page that speaks for its own process. */
export function mergedBy(page: MetricPage): string | undefined {
  for (const [sample] of page.samples.values()) {
    const merged = sample === undefined ? undefined : mergerOf(sample.labels);
    if (merged !== undefined) return merged;
  }
  return undefined;
}

function mergerOf(labels: Labels): string | undefined {
  if (labels["worker_addr"] !== undefined)
    return "it merges the engines behind a router (label worker_addr): read each engine's own /metrics";
  if (labels["job"] !== undefined && labels["instance"] !== undefined)
    return "it was collected by Prometheus (labels job and instance): read each engine's own /metrics";
  if (labels["model_instance_id"] !== undefined && labels["worker_name"] !== undefined)
    return "it merges the engines of a GPUStack worker: read the worker's /metrics as gpustack";
  return undefined;
}
