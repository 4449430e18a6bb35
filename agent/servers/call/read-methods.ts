// Every gRPC method of a server that this program can call. All of them read: Abort, Shutdown, Flush, Sleep and the like
// have no client code, because calls are typed by this list. Facts: the .proto files named by each source.

/** The methods, by full path. Exported for its test: the list is the promise. */
export const readMethods = [
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
] as const;

/** One of them. */
export type ReadMethod = (typeof readMethods)[number];
