// What all servers read by a metric page have in common: configuration, polling, epochs, and where the page is.
// A server file says how its page is recognised and read; everything else is here.
import { z } from "zod";
import type { Family, ProgressKind, ServerInfo, TokenReading, TokenSample } from "../../model.ts";
import { createPageFetcher } from "../../page/fetch.ts";
import { createPageParser } from "../../page/parse.ts";
import type { Parsed } from "../../platform/address.ts";
import {
  addressText,
  isFault,
  parseHostPort,
  parseUnixSocket,
  parseWebAddress,
} from "../../platform/address.ts";
import type {
  MetricPage,
  PageReader,
  PageReading,
  PullServerSource,
  ServerType,
  SourceContext,
} from "../../source.ts";
import { commonFields, defined, serverInfo, tlsField } from "../entry.ts";
import type { ReaderOptions } from "./labels.ts";
import { epochStart } from "./labels.ts";
import { mergedBy } from "./merged.ts";
import { PageReadings } from "./readings.ts";
import { filedName, inAnySpelling } from "./spelling.ts";
import { holdVanished, watchBirths, watchFrozen } from "./watch.ts";

const NANOS_PER_SECOND = 1e9;
const POLL_MS = 5000;

/** What one kind of server is. */
export interface TextServer {
  readonly name: string;
  readonly family: Family;
  /** Port and path of a default installation. */
  readonly port: number;
  readonly path: string;
  /** The families the reader uses, as on the page or as filed: ":" and "." as "_", without `_total`. */
  readonly families: readonly string[];
  /** How its volume counters move. */
  readonly volume: ProgressKind;
  /** Which labels mean what when the configuration does not say. */
  readonly labels: Pick<ReaderOptions, "modelLabel" | "tenantLabel" | "endpointLabel">;
  /** Series may vanish without a restart, and come back: the server evicts label sets that are idle. */
  readonly vanishing?: boolean;
  /** Its series appear with the first event they count, and the page is of one process: what is new began at zero. */
  readonly bornAtZero?: boolean;
  /** A response header that identifies the run, where the page does not; what it means is not asked. */
  readonly epochHeader?: string;
  /**
   * Its page speaks for several engines of this host. Others that show the labels of a merged page are refused: they would
   * count the tokens of a fleet.
   */
  readonly merges?: boolean;
  /** Which releases count requests and no tokens; "never" where no release counts any. */
  readonly withoutTokens?: string;
  /** The page's URL made such that reading it changes nothing in the server. */
  harmless?(url: string): string;
  /** Why this page is of this server, or undefined if it is not. */
  recognises(page: MetricPage): string | undefined;
  /** Gathers the page. */
  read(readings: PageReadings): void;
}

/** What an entry of any server that is read by its page may say. */
export const textServerConfig = z.strictObject({
  ...commonFields,
  endpoint: addressText(parsePageAddress),
  /** Default: `rates.scrapeMs`. */
  pollMs: z.int().min(100).max(600_000).optional(),
  timeoutMs: z.int().min(100).max(60_000).default(4000),
  bytesMax: z
    .int()
    .positive()
    .max(1024 * 1024 * 1024)
    .optional(),
  tls: tlsField.optional(),
  bearerFile: z.string().min(1).optional(),
  headers: z.record(z.string(), z.string()).optional(),
  role: z.enum(["combined", "prefill", "decode"]).optional(),
  modelLabel: z.string().min(1).optional(),
  tenantLabel: z.string().min(1).optional(),
  endpointLabel: z.string().min(1).optional(),
});

type Entry = z.output<typeof textServerConfig>;

/** The server type of a kind of server that is read by its metric page. */
export function textServer(
  server: TextServer,
): ServerType<typeof textServerConfig> & { readonly page: PageReader } {
  return {
    name: server.name,
    config: textServerConfig,
    example: { endpoint: `localhost:${server.port}` },
    family: server.family,
    open: (entry, context) => openTextServer(server, entry, context),
    page: pageReader(server, {}),
  };
}

/** Reads pages of a server under the label meanings of one configuration entry. */
export function pageReader(server: TextServer, options: ReaderOptions): PageReader {
  const labels: ReaderOptions = { ...server.labels, ...defined(options) };
  return {
    families: server.families.map(filedName),
    path: server.path,
    merges: server.merges === true,
    recognises: (page) =>
      refusal(server, page) === undefined ? server.recognises(inAnySpelling(page)) : undefined,
    read: (read, noting) => {
      const page = inAnySpelling(read);
      const refused = refusal(server, page);
      if (refused !== undefined) return nothing(page, `this page is no engine of this host: ${refused}`);
      const readings = new PageReadings(page, server.volume, labels, noting);
      server.read(readings);
      const reading = readings.finish();
      const missing = missingTokens(server, reading.readings);
      return missing === undefined ? reading : { ...reading, errors: [...reading.errors, missing] };
    },
  };
}

function refusal(server: TextServer, page: MetricPage): string | undefined {
  return server.family === "engine" && server.merges !== true ? mergedBy(page) : undefined;
}

function nothing(page: MetricPage, problem: string): PageReading {
  return { readings: [], summed: [], ignoredSamples: page.ignoredSamples, errors: [...page.errors, problem] };
}

/** Says that a page shows no token counter: no tokens are not 0 tokens. */
function missingTokens(server: TextServer, readings: readonly TokenReading[]): string | undefined {
  if (server.withoutTokens === "never" || readings.some(({ tokens }) => Object.keys(tokens).length > 0))
    return undefined;
  const worked = readings.some(({ requests }) => Object.values(requests).some((count) => count > 0));
  if (!worked) return `no token counter of ${server.name} is on the page`;
  const why = server.withoutTokens === undefined ? "" : `: ${server.withoutTokens}`;
  return `${server.name} counts requests on this page and no tokens${why}`;
}

/** A source that polls the page. Throws SourceError (misconfigured) when the address cannot be read. */
export function openTextServer(server: TextServer, entry: Entry, context: SourceContext): PullServerSource {
  const info = serverInfo(server.name, server.family, entry, entry.pollMs ?? context.scrapeMs ?? POLL_MS);
  const { tls, bearerFile, headers, bytesMax, timeoutMs } = entry;
  const fetcher = createPageFetcher(
    {
      url: (server.harmless ?? String)(pageUrl(entry.endpoint, server.path, tls !== undefined)),
      timeoutMs,
      ...defined({
        tls: tls === undefined || tls === true ? undefined : defined(tls),
        bearerFile,
        headers,
        bytesMax,
      }),
    },
    context,
  );
  const parser = createPageParser(server.families.map(filedName));
  const hold = server.vanishing === true ? holdVanished() : (page: MetricPage): MetricPage => page;
  const frozen = watchFrozen(context.clock);
  const reader = pageReader(server, entry);
  const born = server.bornAtZero === true ? watchBirths() : (): undefined => undefined;
  const explain = explainOnce(server, context);
  return {
    kind: "pull",
    info,
    poll: async (): Promise<TokenSample> => {
      const sent = context.clock.now();
      const { complete, headers, received, reading } = await fetcher.fetch(({ body, headers }) => {
        const received = context.clock.now();
        const samples = hold(parser.parse(body));
        const reading = reader.read(samples);
        const errors = explain(body, reading);
        return {
          complete: born(samples, reading.readings),
          headers,
          received,
          reading: { ...reading, errors },
        };
      }, context.signal);
      const { readings, ignoredSamples, errors, activeNanos, gpus } = reading;
      const header = server.epochHeader === undefined ? undefined : headers[server.epochHeader];
      return {
        server: info.id,
        family: info.family,
        sent,
        received,
        at: sent + Math.round((received - sent) / 2),
        readings: readings.map((reading) => located(reading, info, header, context)),
        ignoredSamples,
        errors: [...errors, ...complaints(readings, frozen)],
        ...defined({
          completeEpoch: complete,
          activeNanos,
          gpus: info.gpus ?? gpus,
          pids: info.pids,
        }),
      };
    },
    close: async () => fetcher.close(),
  };
}

/**
 * The errors of a reading and, where it has no tokens, what the page seems to be instead. A page is looked at as a whole
 * once, until tokens were seen on it.
 */
function explainOnce(
  server: TextServer,
  context: SourceContext,
): (body: Uint8Array, reading: PageReading) => readonly string[] {
  let said = "";
  let looked = false;
  return (body, { errors, readings }) => {
    if (readings.some(({ tokens }) => Object.keys(tokens).length > 0)) {
      looked = false;
      return errors;
    }
    if (!looked) said = context.explainPage?.(body, server.name) ?? "";
    looked = true;
    return said === "" || errors.some((error) => error.includes(said)) ? errors : [...errors, said];
  };
}

function complaints(readings: readonly TokenReading[], frozen: ReturnType<typeof watchFrozen>): string[] {
  const problem = frozen(readings);
  return problem === undefined ? [] : [problem];
}

/** The reading with what only the source knows: the product endpoint, and when its epoch began. */
function located(
  reading: TokenReading,
  info: ServerInfo,
  header: string | readonly string[] | undefined,
  context: SourceContext,
): TokenReading {
  const epoch = reading.epoch ?? (typeof header === "string" ? `header:${header.slice(0, 64)}` : undefined);
  const seconds = epochStart(epoch);
  const endpoint = reading.endpoint ?? info.endpoint;
  if (epoch === reading.epoch && seconds === undefined && endpoint === reading.endpoint) return reading;
  return {
    ...reading,
    ...defined({
      epoch,
      epochBegan:
        seconds !== undefined
          ? context.clock.instant(BigInt(Math.round(seconds * 1e6)) * (BigInt(NANOS_PER_SECOND) / 1_000_000n))
          : undefined,
      endpoint,
    }),
  };
}

/** The URL of the page behind `host:port`, `unix:/socket` or a URL with or without path. */
export function pageUrl(endpoint: string, path: string, tls: boolean): string {
  if (endpoint.startsWith("unix:")) return endpoint.includes(":/", 6) ? endpoint : `${endpoint}:${path}`;
  if (!/^https?:\/\//.test(endpoint)) return `${tls ? "https" : "http"}://${endpoint}${path}`;
  return /^https?:\/\/[^/]+\/?$/.test(endpoint) ? endpoint.replace(/\/?$/, path) : endpoint;
}

/** `host:port`, an http(s) address or `unix:/path[:/page]`. */
export function parsePageAddress(text: string): Parsed {
  if (/^https?:\/\//i.test(text)) return parseWebAddress(text);
  const parsed = parseUnixSocket(text) ?? parseHostPort(text);
  return isFault(parsed) ? { ...parsed, wanted: `${parsed.wanted} or an address with http://` } : parsed;
}
