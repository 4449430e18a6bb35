// A Dynamo worker's page (DYN_SYSTEM_PORT, off by default): its engine's own families passed through with
// dynamo_component, dynamo_endpoint, worker_id and model added. Volume and progress are those of the engine behind.
// The frontend's page shows the same tokens again; it is a gateway and never added to these.
import type { Role } from "../model.ts";
import type { MetricPage } from "../source.ts";
import { textServer } from "./page/server.ts";
import { readSglang, sglang, sglangRanks } from "./sglang.ts";
import { readTensorrtLlm, tensorrtLlmFamilies } from "./tensorrt-llm.ts";
import { readVllm, vllm, vllmRanks } from "./vllm.ts";

/** The counter each engine is known by. */
const ENGINES = ["vllm_generation_tokens", "sglang_generation_tokens", "trtllm_generation_tokens"] as const;

const ROLES: Readonly<Record<string, Role>> = { prefill: "prefill", decode: "decode" };

/** A Dynamo worker. */
export const dynamoWorker = textServer({
  name: "dynamo-worker",
  family: "engine",
  port: 8081,
  path: "/metrics",
  volume: "step",
  labels: { modelLabel: ["model_name", "model"] },
  families: [
    ...(vllm.page.families ?? []),
    ...(sglang.page.families ?? []),
    ...tensorrtLlmFamilies("trtllm_"),
  ],
  ranks: [vllmRanks("vllm_"), sglangRanks("sglang_")],
  recognises: (page) =>
    engineOf(page) === undefined ? undefined : "dynamo_component label on an engine's families",
  read: (readings) => {
    const engine = ENGINES.find((name) => readings.page.samples.has(name));
    const component =
      engine === undefined ? undefined : readings.page.samples.get(engine)?.[0]?.labels["dynamo_component"];
    // A worker that only prefills, or only decodes, is called so; the one that does both is not.
    if (readings.options.role === undefined && component !== undefined)
      readings.role = ROLES[component] ?? readings.role;
    if (engine === "sglang_generation_tokens") readSglang(readings);
    else if (engine === "trtllm_generation_tokens") readTensorrtLlm(readings);
    else readVllm(readings);
  },
});

function engineOf(page: MetricPage): string | undefined {
  return ENGINES.find((name) => page.samples.get(name)?.[0]?.labels["dynamo_component"] !== undefined);
}
