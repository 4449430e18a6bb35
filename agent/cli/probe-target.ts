// Reads one metric page or gRPC target for `tokenwatt probe` and `doctor`: which server it is, why, and its readings.
import { readFileSync } from "node:fs";
import { typeOfServices } from "../discovery/ask.ts";
import type { TokenReading, TokenSample } from "../model.ts";
import { createPageFetcher, notAPage } from "../page/fetch.ts";
import { parsePage } from "../page/parse.ts";
import { systemClock } from "../platform/clock.ts";
import { openChannel } from "../platform/grpc.ts";
import { silentLog } from "../platform/log.ts";
import { reflectServices } from "../servers/call/call.ts";
import { isGrpcAddress } from "../servers/entry.ts";
import { pageUrl } from "../servers/page/server.ts";
import { serverTypes } from "../servers/registry.ts";
import { readTokenCountersOnce } from "../servers/token-counters/index.ts";
import type {
  MetricPage,
  PageReader,
  PageReading,
  PullServerSource,
  ServerType,
  SourceContext,
} from "../source.ts";
import { SourceError } from "../source.ts";
import { UsageError } from "./common/errors.ts";

/** What a probe found, as `--json` prints it. */
export interface ProbeResult {
  readonly server: string | null;
  readonly why: string;
  readonly readings: readonly Readonly<Record<string, unknown>>[];
  readonly ignored_samples: number;
  readonly errors: readonly string[];
}

/** Kinds of gRPC servers, tried in this order where a peer does not reflect. */
const GRPC_TYPES: readonly string[] = ["token-counters", "triton-grpc", "get-loads"];

/** Where pages are, tried in this order when an address names no path (facts: probe order). */
const PATHS = ["/metrics", "/v1/metrics", "/prometheus/metrics"];

/** Reads `target` once. Throws SourceError or UsageError when there is nothing to read. */
export async function probe(target: string, as?: string): Promise<ProbeResult> {
  const context: SourceContext = {
    clock: systemClock(),
    log: silentLog,
    signal: new AbortController().signal,
  };
  if (as !== undefined && pageOf(as) === undefined && !GRPC_TYPES.includes(as)) {
    throw new UsageError(`Cannot probe as ${JSON.stringify(as)}: wanted one of ${pageTypes().join(", ")}`);
  }
  if (target.startsWith("grpc://"))
    return probeGrpc(target.slice("grpc://".length).replace(/\/$/, ""), as, context);
  const page = await pageAt(target, context);
  return readPage(page, as);
}

async function pageAt(target: string, context: SourceContext): Promise<MetricPage> {
  if (!/^(https?:\/\/|unix:)/.test(target)) return parsePage(pageBytes(target));
  const tried: string[] = [];
  for (const url of new Set(PATHS.map((path) => pageUrl(target, path, false)))) {
    const fetcher = createPageFetcher({ url }, context);
    try {
      return await fetcher.fetch(({ body }) => parsePage(body));
    } catch (error) {
      if (!(error instanceof SourceError)) throw error;
      tried.push(error.hint === undefined ? error.message : `${error.message} (${error.hint})`);
    } finally {
      fetcher.close();
    }
  }
  throw new SourceError("transient", tried.join("\n"));
}

/** The bytes of a file that can be a page; anything else is named for what it is. */
function pageBytes(path: string): Buffer {
  const bytes = fileAt(path);
  const foreign = notAPage(bytes);
  if (foreign === undefined) return bytes;
  throw new SourceError("misconfigured", `Cannot read ${path}: it holds ${foreign}, wanted Prometheus text`);
}

function fileAt(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new SourceError("misconfigured", `Cannot read ${path}: ${(cause as Error).message}`, {
      cause,
      hint: "wanted a file, http(s)://host:port[/path], unix:/socket or grpc://host:port",
    });
  }
}

/** The readings of a page: as the server named, else as the first kind that recognises it. */
export function readPage(page: MetricPage, as?: string): ProbeResult {
  if (as !== undefined) {
    const reader = pageOf(as) as PageReader;
    const why = reader.recognises(page) ?? `--as ${as}; the page does not look like it`;
    return toResult(as, why, reader.read(page, "noting"));
  }
  for (const type of serverTypes) {
    const why = type.page?.recognises(page);
    if (type.page !== undefined && why !== undefined)
      return toResult(type.name, why, type.page.read(page, "noting"));
  }
  return {
    server: null,
    why: `none of ${pageTypes().join(", ")} publishes this page`,
    readings: [],
    ignored_samples: page.ignoredSamples,
    errors: page.errors,
  };
}

/** Reads a gRPC target once: as the service it reflects, else as each kind in turn until one answers. */
async function probeGrpc(
  address: string,
  as: string | undefined,
  context: SourceContext,
): Promise<ProbeResult> {
  if (!isGrpcAddress(address)) {
    throw new UsageError(`Cannot probe "grpc://${address}": wanted grpc://host:port or grpc://unix:/socket`);
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
      ...toJson(reading, []),
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

function toResult(server: string, why: string, read: PageReading): ProbeResult {
  return {
    server,
    why,
    readings: read.readings.map((reading, index) => toJson(reading, read.summed[index] ?? [])),
    ignored_samples: read.ignoredSamples,
    errors: read.errors,
  };
}

function toJson(
  reading: TokenReading,
  summed: readonly Readonly<Record<string, string>>[],
): Readonly<Record<string, unknown>> {
  const { tokens, requests } = reading;
  return {
    model: reading.model ?? null,
    tenant: reading.tenant ?? null,
    endpoint: reading.endpoint ?? null,
    role: reading.role,
    summed,
    input_uncached: tokens.input_uncached ?? null,
    input_cached: tokens.input_cached ?? null,
    input_unsplit: tokens.input_unsplit ?? null,
    output: tokens.output ?? null,
    reasoning: reading.reasoningTokens ?? null,
    requests: {
      ok: requests.ok ?? null,
      error: requests.error ?? null,
      aborted: requests.aborted ?? null,
      rejected: requests.rejected ?? null,
    },
    running: reading.running ?? null,
    waiting: reading.waiting ?? null,
    kv_cache_utilization: reading.kvCacheUtilization ?? null,
    volume: reading.volume,
    epoch: reading.epoch ?? null,
  };
}

function pageOf(name: string): PageReader | undefined {
  return serverTypes.find((type) => type.name === name)?.page;
}

function pageTypes(): readonly string[] {
  return serverTypes.filter((type) => type.page !== undefined).map((type) => type.name);
}
