// Which gRPC methods the program can call at all. Whoever adds one changes the list here too, and says why it is safe.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readMethods } from "../../../agent/servers/call/read-methods.ts";

const agent = fileURLToPath(new URL("../../../agent", import.meta.url));
const sources = readdirSync(agent, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => ({ name, text: readFileSync(`${agent}/${name}`, "utf8") }));
const filesWith = (pattern: RegExp): string[] =>
  sources
    .filter(({ text }) => pattern.test(text))
    .map(({ name }) => name)
    .sort();

describe("gRPC methods", () => {
  test("of servers are these, which only read", () => {
    expect(readMethods).toEqual([
      "/tokenwatt.v1.TokenCounters/Watch",
      "/inference.GRPCInferenceService/ServerMetadata",
      "/inference.GRPCInferenceService/RepositoryIndex",
      "/inference.GRPCInferenceService/ModelStatistics",
      "/sglang.grpc.scheduler.SglangScheduler/GetLoads",
      "/sglang.grpc.scheduler.SglangScheduler/GetServerInfo",
      "/sglang.grpc.scheduler.SglangScheduler/GetModelInfo",
      "/vllm.grpc.engine.VllmEngine/GetLoads",
      "/vllm.grpc.engine.VllmEngine/GetServerInfo",
      "/vllm.grpc.engine.VllmEngine/GetModelInfo",
      "/tokenspeed.grpc.scheduler.TokenSpeedScheduler/GetLoads",
      "/tokenspeed.grpc.scheduler.TokenSpeedScheduler/GetServerInfo",
      "/tokenspeed.grpc.scheduler.TokenSpeedScheduler/GetModelInfo",
      "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ]);
  });

  test("are called in four places, two of which take no other method than those", () => {
    const calls = /\bmake(Unary|ClientStream|ServerStream|BidiStream)Request\b|\bmakeClientConstructor\b/;
    expect(filesWith(calls)).toEqual([
      "export/otlp/transport.ts",
      "host/kubelet/call.ts",
      "servers/call/call.ts",
      "servers/token-counters/index.ts",
    ]);
    const textOf = (name: string): string => sources.find((source) => source.name === name)?.text ?? "";
    // Typed by the list: the compiler refuses any other path, and nothing talks it out of that.
    expect(textOf("servers/call/call.ts").match(/method: ReadMethod\b/g)).toHaveLength(2);
    expect(textOf("servers/call/call.ts")).not.toMatch(/method: string/);
    expect(textOf("servers/token-counters/index.ts")).toContain("const METHOD: ReadMethod =");
    expect(filesWith(/\bas ReadMethod\b|@ts-(ignore|expect-error|nocheck)/)).toEqual([]);
  });

  test("of destinations and the kubelet are two exports and two lists", () => {
    const exported = sources.find(({ name }) => name === "export/otlp/transport.ts")?.text ?? "";
    expect(exported.match(/"\/[\w.]+\/\w+"/g)?.sort()).toEqual([
      '"/opentelemetry.proto.collector.logs.v1.LogsService/Export"',
      '"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"',
    ]);
    const asked = sources
      .filter(({ name }) => name.startsWith("host/"))
      .flatMap(({ text }) => text.match(/\bmethod: "[A-Z]\w+"/g) ?? []);
    expect(asked.sort()).toEqual(['method: "List"', 'method: "ListPods"']);
  });
});
