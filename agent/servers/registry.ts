// Every kind of server that counts tokens. Adding one is a file (or folder) and a line here.
// The order is the order in which a page is tried: label signatures exclude each other, so it only matters for speed.
import type { ServerType } from "../source.ts";
import { agentgateway } from "./agentgateway.ts";
import { aibrix } from "./aibrix.ts";
import { aphrodite } from "./aphrodite.ts";
import { apisix } from "./apisix.ts";
import { bifrost } from "./bifrost.ts";
import { dynamo } from "./dynamo.ts";
import { dynamoWorker } from "./dynamo-worker.ts";
import { envoyAccessLog } from "./envoy-access-log/index.ts";
import { envoyAiGateway } from "./envoy-ai-gateway.ts";
import { fastdeploy } from "./fastdeploy.ts";
import { getLoads } from "./get-loads.ts";
import { gpustack } from "./gpustack.ts";
import { higress } from "./higress.ts";
import { kong } from "./kong.ts";
import { kserve } from "./kserve.ts";
import { lightllm } from "./lightllm.ts";
import { litellm } from "./litellm.ts";
import { llamaCpp } from "./llama-cpp.ts";
import { llmDEpp } from "./llm-d-epp.ts";
import { lmdeploy } from "./lmdeploy.ts";
import { mindie } from "./mindie.ts";
import { nim } from "./nim.ts";
import { otlp } from "./otlp/index.ts";
import { prometheusGeneric } from "./prometheus-generic.ts";
import { rayServeLlm } from "./ray-serve-llm.ts";
import { replayServer } from "./replay.ts";
import { sglang } from "./sglang.ts";
import { smg } from "./smg.ts";
import { tensorrtLlm } from "./tensorrt-llm.ts";
import { tgi } from "./tgi.ts";
import { tokenCounters } from "./token-counters/index.ts";
import { triton } from "./triton.ts";
import { tritonGrpc } from "./triton-grpc.ts";
import { usageReports } from "./usage-reports.ts";
import { vllm } from "./vllm.ts";
import { vllmProductionStack } from "./vllm-production-stack.ts";
import { vllmSemanticRouter } from "./vllm-semantic-router.ts";
import { xinference } from "./xinference.ts";

/** The server types by name; a name is a file of this folder and the key of its list under `servers`. */
export const serverTypes: readonly ServerType[] = [
  replayServer,
  tokenCounters,
  vllm,
  sglang,
  tgi,
  tensorrtLlm,
  triton,
  nim,
  dynamo,
  dynamoWorker,
  llamaCpp,
  lmdeploy,
  rayServeLlm,
  aphrodite,
  lightllm,
  fastdeploy,
  xinference,
  mindie,
  gpustack,
  kserve,
  smg,
  llmDEpp,
  envoyAiGateway,
  agentgateway,
  bifrost,
  apisix,
  vllmSemanticRouter,
  litellm,
  kong,
  higress,
  aibrix,
  vllmProductionStack,
  prometheusGeneric,
  tritonGrpc,
  getLoads,
  otlp,
  envoyAccessLog,
  usageReports,
];
