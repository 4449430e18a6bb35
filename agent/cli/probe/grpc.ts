// Reads a gRPC target once for `tokenwatt probe`: as the service it reflects, else as each kind in turn until one answers.
import { typeOfServices } from "../../discovery/ask.ts";
import type { TokenSample } from "../../model.ts";
import { isFault } from "../../platform/address.ts";
import { openChannel } from "../../platform/grpc.ts";
import { reflectServices } from "../../servers/call/call.ts";
import { parseGrpcAddress } from "../../servers/entry.ts";
import { serverTypes } from "../../servers/registry.ts";
import { readTokenCountersOnce } from "../../servers/token-counters/index.ts";
import type { PullServerSource, ServerType, SourceContext } from "../../source.ts";
import { SourceError } from "../../source.ts";
import { UsageError } from "../common/errors.ts";
import type { ProbeResult } from "./result.ts";
import { readingJson } from "./result.ts";

/** Kinds of gRPC servers, tried in this order where a peer does not reflect. */
export const GRPC_TYPES: readonly string[] = ["token-counters", "triton-grpc", "get-loads"];

/** Reads a gRPC target once: as the service it reflects, else as each kind in turn until one answers. */
export async function probeGrpc(
  address: string,
  as: string | undefined,
  context: SourceContext,
): Promise<ProbeResult> {
  const parsed = parseGrpcAddress(address);
  if (isFault(parsed)) {
    throw new UsageError(
      `Cannot probe this target: wanted grpc://${parsed.wanted} or grpc://unix:/socket`,
      parsed.hint,
    );
  }
  const services = await servicesOf(address, context);
  const reflected = as ?? typeOfServices(services ?? []);
  if (reflected === undefined && services !== undefined) {
    throw new SourceError(
      "transient",
      `Cannot read grpc://${address}: it serves ${services.join(", ") || "nothing"}`,
    );
  }
  const failures: string[] = [];
  for (const type of reflected === undefined ? GRPC_TYPES : [reflected]) {
    try {
      const samples =
        type === "token-counters"
          ? await readTokenCountersOnce(address, context)
          : await pollOnce(type, address, context);
      return toGrpcResult(
        type,
        reflected === undefined ? `it answers as ${type}` : `${type} services are reflected`,
        samples,
      );
    } catch (error) {
      if (!(error instanceof SourceError)) throw error;
      failures.push(error.hint === undefined ? error.message : `${error.message} (${error.hint})`);
      // The other kinds would say the same.
      if (/nothing listens|does not speak gRPC/.test(error.message)) break;
    }
  }
  throw new SourceError("transient", failures.join("\n"));
}

async function servicesOf(address: string, context: SourceContext): Promise<readonly string[] | undefined> {
  const target = { target: address };
  const channel = openChannel(target);
  try {
    return await reflectServices({ channel, target, timeoutMs: 3000, clock: context.clock });
  } catch {
    // The readers say better what is wrong.
    return undefined;
  } finally {
    channel.close();
  }
}

async function pollOnce(name: string, endpoint: string, context: SourceContext): Promise<TokenSample[]> {
  const type = serverTypes.find((each) => each.name === name) as ServerType;
  const source = type.open(type.config.parse({ endpoint }), context) as PullServerSource;
  try {
    return [await source.poll()];
  } finally {
    await source.close();
  }
}

function toGrpcResult(server: string, why: string, samples: readonly TokenSample[]): ProbeResult {
  const readings = samples.flatMap((sample) =>
    sample.readings.map((reading) => ({
      ...readingJson(reading, []),
      server: sample.server,
      active_nanos: sample.activeNanos ?? null,
      gpus: sample.gpus ?? null,
      pids: sample.pids ?? null,
    })),
  );
  return {
    server,
    why,
    readings,
    ignored_samples: samples.reduce((sum, sample) => sum + sample.ignoredSamples, 0),
    errors: samples.flatMap((sample) => sample.errors),
  };
}
