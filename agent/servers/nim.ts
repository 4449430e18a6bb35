// NVIDIA NIM for LLMs (docs.nvidia.com/nim/large-language-models; 1.x, and 2.x/3.x where the back end's names show).
// 1.x: vLLM's names without a prefix; volume and progress per engine step, input unsplit. 2.x and newer publish their
// back end's own families under /v1/metrics: those are read as vLLM or SGLang. The 2.x prefix was not seen live.
// Names without a prefix are anyone's (MindIE has the same ones): a page is NIM's by `num_request_max`, `request_finish` or
// the KV cache of a GPU beside them, with a model_name on every one.
import type { Outcome } from "../model.ts";
import { textServer } from "./page/server.ts";
import { readSglang, sglang } from "./sglang.ts";
import { readVllm, vllm } from "./vllm.ts";

const REASONS: Readonly<Record<string, Outcome>> = { stop: "ok", length: "ok", abort: "aborted" };

/** Families that no other server with these names has. */
const SIGNS = ["num_request_max", "request_finish", "gpu_cache_usage_perc"];

/** A NIM container. */
export const nim = textServer({
  name: "nim",
  family: "engine",
  port: 8000,
  path: "/v1/metrics",
  volume: "step",
  labels: { modelLabel: "model_name" },
  families: [
    "prompt_tokens",
    "generation_tokens",
    "request_success",
    "request_failure",
    "request_finish",
    "num_requests_running",
    "num_requests_waiting",
    "gpu_cache_usage_perc",
    "time_to_first_token_seconds",
    "time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    ...(vllm.page.families ?? []),
    ...(sglang.page.families ?? []),
  ],
  recognises: (page) =>
    SIGNS.some((name) => page.samples.get(name)?.[0]?.labels["model_name"] !== undefined) &&
    page.samples.get("generation_tokens")?.[0]?.labels["model_name"] !== undefined &&
    !page.samples.has("npu_cache_usage_perc")
      ? "vLLM's names without a prefix, beside NIM's own"
      : undefined,
  read: (readings) => {
    if (readings.page.samples.has("vllm_generation_tokens")) return readVllm(readings);
    if (readings.page.samples.has("sglang_generation_tokens")) return readSglang(readings);
    readings.input("prompt_tokens", () => undefined);
    readings.tokens("output", "generation_tokens");
    if (readings.page.samples.has("request_finish")) {
      readings.requests("request_finish", (labels) => REASONS[labels["finished_reason"] ?? ""] ?? "error");
    } else {
      readings.requests("request_success", () => "ok");
      readings.requests("request_failure", () => "error");
    }
    readings.inFlight("running", "num_requests_running");
    readings.inFlight("waiting", "num_requests_waiting");
    readings.kvCache("gpu_cache_usage_perc");
    readings.latency("time_to_first_token", "time_to_first_token_seconds");
    readings.latency("inter_token_latency", "time_per_output_token_seconds");
    readings.latency("request_duration", "e2e_request_latency_seconds");
    return readings.epoch();
  },
});
