// Reads one metric page or gRPC target for `tokenwatt probe` and `doctor`: which server it is, why, and its readings.
import { existsSync, readFileSync } from "node:fs";
import { typeOfServices } from "../discovery/ask.ts";
import { explainPage, recognise } from "../discovery/explain.ts";
import type { TokenReading, TokenSample } from "../model.ts";
import { createPageFetcher, notAPage } from "../page/fetch.ts";
import { parsePage } from "../page/parse.ts";
import { isFault } from "../platform/address.ts";
import { systemClock } from "../platform/clock.ts";
import { openChannel } from "../platform/grpc.ts";
import { silentLog } from "../platform/log.ts";
import { reflectServices } from "../servers/call/call.ts";
import { parseGrpcAddress } from "../servers/entry.ts";
import { mergedBy } from "../servers/page/merged.ts";
import { pageUrl, parsePageAddress } from "../servers/page/server.ts";
import type { Mapping, TokenFamily } from "../servers/page/token-families.ts";
import { findTokenFamilies, mappingOf } from "../servers/page/token-families.ts";
import { genericReader } from "../servers/prometheus-generic.ts";
import { serverTypes } from "../servers/registry.ts";
import { readTokenCountersOnce } from "../servers/token-counters/index.ts";
import type { PageReader, PageReading, PullServerSource, ServerType, SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import { UsageError } from "./common/errors.ts";
import { readMapping } from "./probe/mapping.ts";

/** What a probe found, as `--json` prints it. */
export interface ProbeResult {
  readonly server: string | null;
  readonly why: string;
  readonly readings: readonly Readonly<Record<string, unknown>>[];
  readonly ignored_samples: number;
  readonly errors: readonly string[];
  /** Of a page no type knows: families that look like tokens, and a mapping to start from. */
  readonly token_families?: readonly TokenFamily[];
  readonly mapping?: Mapping;
}

/** How a target is read. */
export interface ProbeOptions {
  /** The server type to read it as. */
  readonly as?: string | undefined;
  /** A file with a mapping for `prometheus-generic`. */
  readonly map?: string | undefined;
}

const GENERIC = "prometheus-generic";

/** Kinds of gRPC servers, tried in this order where a peer does not reflect. */
const GRPC_TYPES: readonly string[] = ["token-counters", "triton-grpc", "get-loads"];

/** Where pages are, tried in this order when an address names no path: most servers, NIM, trtllm-serve. */
const PATHS = ["/metrics", "/v1/metrics", "/prometheus/metrics"];

/** Reads `target` once. Throws SourceError, ConfigError or UsageError when there is nothing to read. */
export async function probe(target: string, { as, map }: ProbeOptions = {}): Promise<ProbeResult> {
  const context: SourceContext = {
    clock: systemClock(),
    log: silentLog,
    signal: new AbortController().signal,
  };
  refuseType(as, map);
  const reader = as === undefined && map === undefined ? undefined : readerOf(as, map, target);
  const grpc = grpcAddress(target, as);
  if (grpc !== undefined) return probeGrpc(grpc, as, context);
  const bytes = await pageAt(target, reader?.path, context);
  const name = as ?? (map === undefined ? undefined : GENERIC);
  return readPage(bytes, name, reader, endpointOf(target));
}

/** What a page seems to count, for a mapping or a server file to start from. Throws like `probe`. */
export async function suggest(target: string): Promise<Mapping> {
  const context: SourceContext = {
    clock: systemClock(),
    log: silentLog,
    signal: new AbortController().signal,
  };
  const bytes = await pageAt(target, undefined, context);
  const page = parsePage(bytes);
  return mappingOf(endpointOf(target), findTokenFamilies(bytes, page), page);
}

function refuseType(as: string | undefined, map: string | undefined): void {
  if (map !== undefined && as !== undefined && as !== GENERIC)
    throw new UsageError(`Cannot map a page of ${as}: --map is for --as ${GENERIC}`);
  if (as === GENERIC && map === undefined) {
    throw new UsageError(
      `Cannot probe as ${GENERIC} without a mapping`,
      "give --map FILE; without --as, `tokenwatt probe` of an unknown page prints a mapping to start from",
    );
  }
  if (as !== undefined && as !== GENERIC && pageOf(as) === undefined && !GRPC_TYPES.includes(as)) {
    const all = [...pageTypes(), GENERIC, ...GRPC_TYPES].join(", ");
    throw new UsageError(`Cannot probe as ${JSON.stringify(as)}: wanted one of ${all}`);
  }
}

function readerOf(as: string | undefined, map: string | undefined, target: string): PageReader | undefined {
  return map === undefined ? pageOf(as as string) : genericReader(readMapping(map, endpointOf(target)));
}

/** The address of a gRPC target: `grpc://host:port`, or as in the configuration of a type that is reached so. */
function grpcAddress(target: string, as: string | undefined): string | undefined {
  if (target.startsWith("grpc://")) return target.slice("grpc://".length).replace(/\/$/, "");
  const isGrpc = as !== undefined && GRPC_TYPES.includes(as) && !isFault(parseGrpcAddress(target));
  return isGrpc && !existsSync(target) ? target : undefined;
}

/** What a target would be called in the configuration; a file stands for a server that is not known. */
function endpointOf(target: string): string {
  return isPage(target) ? target : "localhost:9000";
}

/** Whether a target is an address as in the configuration. A file of that name is meant before a host. */
function isPage(target: string): boolean {
  return !isFault(parsePageAddress(target)) && !existsSync(target);
}

async function pageAt(target: string, path: string | undefined, context: SourceContext): Promise<Buffer> {
  if (!isPage(target)) return pageBytes(target);
  const tried: string[] = [];
  const paths = path === undefined ? [...PATHS, ...pagePaths()] : [path];
  for (const url of new Set(paths.map((each) => pageUrl(target, each, false)))) {
    const fetcher = createPageFetcher({ url }, context);
    try {
      return await fetcher.fetch(({ body }) => Buffer.from(body));
    } catch (error) {
      if (!(error instanceof SourceError)) throw error;
      tried.push(error.hint === undefined ? error.message : `${error.message} (${error.hint})`);
      // Nothing that speaks HTTP: the other paths would say the same.
      if (error.peer !== undefined) break;
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
      hint: "wanted a file, host:port, http(s)://host:port[/path], unix:/socket or grpc://host:port",
    });
  }
}

/** The readings of a page: by a reader, as the server named, else as the first kind that recognises it. Exported for its test: recordings are read by it without a file each. */
export function readPage(
  bytes: Buffer,
  as?: string,
  reader = pageOf(as ?? ""),
  endpoint = "localhost:9000",
): ProbeResult {
  const page = parsePage(bytes);
  const known = recognise(page);
  if (as !== undefined && reader !== undefined) {
    const why = as === GENERIC ? "mapped by --map" : reader.recognises(page);
    const result = toResult(
      as,
      why ?? `--as ${as}; the page does not look like it`,
      reader.read(page, "noting"),
    );
    if (why !== undefined) return result;
    const other = explainPage(bytes, as);
    return other === undefined ? result : { ...result, errors: [...result.errors, other] };
  }
  if (known !== undefined) return toResult(known.type, known.why, known.page.read(page, "noting"));
  const families = findTokenFamilies(bytes, page);
  const merged = mergedBy(page);
  return {
    server: null,
    why: merged ?? "no server type recognises this page",
    readings: [],
    ignored_samples: page.ignoredSamples,
    errors: page.errors,
    ...(families.length === 0 || merged !== undefined
      ? {}
      : { token_families: families, mapping: mappingOf(endpoint, families, page) }),
  };
}

/** Reads a gRPC target once: as the service it reflects, else as each kind in turn until one answers. */
async function probeGrpc(
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

/** Paths of pages that types know beyond the usual ones. */
function pagePaths(): readonly string[] {
  return serverTypes.flatMap((type) => type.page?.path ?? []);
}

function pageTypes(): readonly string[] {
  return serverTypes.filter((type) => type.page !== undefined).map((type) => type.name);
}
