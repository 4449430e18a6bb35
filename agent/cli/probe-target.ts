// Reads one metric page or gRPC target for `tokenwatt probe` and `doctor`: which server it is, why, and its readings.
import { existsSync, readFileSync, statSync } from "node:fs";
import { explainPage, recognise } from "../discovery/explain.ts";
import { createPageFetcher, notAPage } from "../page/fetch.ts";
import { parsePage } from "../page/parse.ts";
import { isFault } from "../platform/address.ts";
import { systemClock } from "../platform/clock.ts";
import { readFileOf } from "../platform/files.ts";
import { silentLog } from "../platform/log.ts";
import { parseGrpcAddress } from "../servers/entry.ts";
import { mergedBy } from "../servers/page/merged.ts";
import { pageUrl, parsePageAddress } from "../servers/page/server.ts";
import type { Mapping } from "../servers/page/token-families.ts";
import { findTokenFamilies, mappingOf } from "../servers/page/token-families.ts";
import { genericReader } from "../servers/prometheus-generic.ts";
import { serverTypes } from "../servers/registry.ts";
import type { PageReader, PageReading, SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import { UsageError } from "./common/errors.ts";
import { GRPC_TYPES, probeGrpc } from "./probe/grpc.ts";
import { readMapping } from "./probe/mapping.ts";
import type { ProbeResult } from "./probe/result.ts";
import { readingJson } from "./probe/result.ts";

/** How a target is read. */
export interface ProbeOptions {
  /** The server type to read it as. */
  readonly as?: string | undefined;
  /** A file with a mapping for `prometheus-generic`. */
  readonly map?: string | undefined;
}

const GENERIC = "prometheus-generic";

/** Where pages are, tried in this order when an address names no path: most servers, NIM, trtllm-serve. */
/** As of a page that is fetched. */
const PAGE_BYTES_MAX = 32 * 1024 * 1024;
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
  if (existsSync(target)) return false;
  const parsed = parsePageAddress(target);
  // What begins like an address is no file.
  if (isFault(parsed) && /^(https?:\/\/|unix:)/.test(target)) {
    throw new UsageError(`Cannot probe this address: wanted ${parsed.wanted}`, parsed.hint);
  }
  return !isFault(parsed);
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
    // `probe /dev/stdin` and `probe <(curl ...)` are pipes that are meant.
    return existsSync(path) && statSync(path).isFIFO()
      ? readFileSync(path)
      : readFileOf(path, PAGE_BYTES_MAX);
  } catch (cause) {
    throw new SourceError("misconfigured", (cause as Error).message, {
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

function toResult(server: string, why: string, read: PageReading): ProbeResult {
  return {
    server,
    why,
    readings: read.readings.map((reading, index) => readingJson(reading, read.summed[index] ?? [])),
    ignored_samples: read.ignoredSamples,
    errors: read.errors,
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
