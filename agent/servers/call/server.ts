// What all servers polled over gRPC have in common: configuration, a channel that is opened again after a failure, the
// instants of a reading, and errors in words.
import { z } from "zod";
import type { TokenReading, TokenSample } from "../../model.ts";
import { openChannel } from "../../platform/grpc.ts";
import type { PullServerSource, ServerType, SourceContext } from "../../source.ts";
import { checkGatewayScope, commonFields, defined, grpcFields, grpcTarget, serverInfo } from "../entry.ts";
import type { GrpcPeer } from "./call.ts";
import { explainGrpcError } from "./errors.ts";

/** What an entry of any server polled over gRPC may say. */
const grpcServerConfig = z.strictObject({
  ...commonFields,
  ...grpcFields,
  pollMs: z.int().min(100).max(600_000).default(1000),
  timeoutMs: z.int().min(100).max(60_000).default(4000),
  role: z.enum(["combined", "prefill", "decode"]).optional(),
});

/** The output of `grpcServerConfig`. */
export type GrpcServerEntry = z.output<typeof grpcServerConfig>;

/** What a poll found. */
export interface GrpcReading {
  readonly readings: readonly TokenReading[];
  readonly version?: string | undefined;
  readonly ignoredSamples?: number;
  readonly errors?: readonly string[];
}

/** One kind of server polled over gRPC. */
export interface GrpcServer {
  readonly name: string;
  /** Full name of the service, for error messages. */
  readonly service: string;
  readonly port: number;
  /** A poller for one open channel; what it remembers dies with the channel. */
  connect(peer: GrpcPeer, entry: GrpcServerEntry, context: SourceContext): () => Promise<GrpcReading>;
}

/** The server type of a server that is polled over gRPC. */
export function grpcServer(server: GrpcServer): ServerType<typeof grpcServerConfig> {
  return {
    name: server.name,
    config: grpcServerConfig,
    example: { endpoint: `localhost:${server.port}` },
    family: "engine",
    open: (entry, context) => openGrpcServer(server, entry, context),
    check: (entry) => checkGatewayScope(server.name, "engine", entry, "untold"),
  };
}

/** A source that polls `server` at the endpoint of `entry`. */
function openGrpcServer(
  server: GrpcServer,
  entry: GrpcServerEntry,
  context: SourceContext,
): PullServerSource {
  checkGatewayScope(server.name, "engine", entry, "untold");
  const info = serverInfo(server.name, "engine", entry, entry.pollMs, context.hostNames);
  const target = grpcTarget(entry);
  let open: { readonly peer: GrpcPeer; readonly poll: () => Promise<GrpcReading> } | undefined;
  const connect = (): NonNullable<typeof open> => {
    const channel = openChannel(target, { "grpc.use_local_subchannel_pool": 1 });
    const peer = { channel, target, timeoutMs: entry.timeoutMs, clock: context.clock };
    return { peer, poll: server.connect(peer, entry, context) };
  };
  return {
    kind: "pull",
    info,
    poll: async (): Promise<TokenSample> => {
      const sent = context.clock.now();
      try {
        open ??= connect();
        const { readings, version, ignoredSamples = 0, errors = [] } = await open.poll();
        const received = context.clock.now();
        return {
          server: info.id,
          family: "engine",
          sent,
          received,
          at: sent + Math.round((received - sent) / 2),
          readings: readings.map((reading) => named(reading, entry)),
          ignoredSamples,
          errors,
          ...defined({ version, gpus: info.gpus, pids: info.pids }),
        };
      } catch (error) {
        open?.peer.channel.close();
        open = undefined;
        throw explainGrpcError(error, server.service, entry.endpoint, {
          tls: target.tls,
          unixNanos: context.clock.unixNanos(context.clock.now()),
        });
      }
    },
    close: async () => open?.peer.channel.close(),
  };
}

function named(reading: TokenReading, entry: GrpcServerEntry): TokenReading {
  const { model } = reading;
  return {
    ...reading,
    role: entry.role ?? reading.role,
    ...defined({
      model: model === undefined ? undefined : (entry.modelAliases?.[model] ?? model),
      endpoint: reading.endpoint ?? entry.productEndpoint,
    }),
  };
}
