// What all servers read by a metric page have in common: configuration, polling, epochs, and where the page is.
// A server file says how its page is recognised and read; everything else is here.
import { z } from "zod";
import type { Family, Nanos, ProgressKind, ServerInfo, TokenReading, TokenSample } from "../../model.ts";
import type { FetchedPage, PageFetcher } from "../../page/fetch.ts";
import { createPageFetcher } from "../../page/fetch.ts";
import type { PageParser } from "../../page/parse.ts";
import { createPageParser } from "../../page/parse.ts";
import type { Parsed } from "../../platform/address.ts";
import {
  addressText,
  isFault,
  parseHostPort,
  parseUnixSocket,
  parseWebAddress,
  splitCredentials,
} from "../../platform/address.ts";
import { headerTexts } from "../../platform/headers.ts";
import type {
  MetricPage,
  PageReader,
  PageReading,
  PullServerSource,
  ServerType,
  SourceContext,
  Unsaid,
} from "../../source.ts";
import { checkGatewayScope, commonFields, defined, serverInfo, tlsField } from "../entry.ts";
import type { CountedPage } from "./bases.ts";
import { SeriesBases } from "./bases.ts";
import type { ReaderOptions } from "./labels.ts";
import type { LimitReader } from "./limits.ts";
import { LimitPages, limitFamilies } from "./limits.ts";
import { locatedOnce } from "./located.ts";
import { mergedBy } from "./merged.ts";
import { processOf } from "./process.ts";
import type { RankLabel } from "./ranks.ts";
import { ranksOn, ShownRanks, withRanks } from "./ranks.ts";
import { PageReadings } from "./readings.ts";
import { filedName, inAnySpelling } from "./spelling.ts";
import { watchFrozen } from "./watch.ts";

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
  readonly labels: Pick<ReaderOptions, "modelLabel" | "tenantLabel" | "endpointLabel" | "upstreamLabel">;
  /** Its series appear with the first event they count, and the page is of one process: what is new began at zero. */
  readonly bornAtZero?: boolean;
  /** A response header that identifies the run, where the page does not; what it means is not asked. */
  readonly epochHeader?: string;
  /**
   * Its page speaks for several engines of this host. Others that show the labels of a merged page are refused: they would
   * count the tokens of a fleet.
   */
  readonly merges?: boolean;
  /** How its page tells data-parallel ranks apart; absent = it does not. */
  readonly ranks?: readonly RankLabel[];
  /** How its page says what it enforces by itself. */
  readonly limits?: LimitReader;
  /** Which releases count requests and no tokens; "never" where no release counts any. */
  readonly withoutTokens?: string;
  /** No release splits cached from uncached input. */
  readonly neverSplits?: true;
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
  headers: headerTexts.optional(),
  role: z.enum(["combined", "prefill", "decode"]).optional(),
  modelLabel: z.string().min(1).optional(),
  tenantLabel: z.string().min(1).optional(),
  endpointLabel: z.string().min(1).optional(),
  /** The label that says which upstream answered, for `upstreams`. */
  upstreamLabel: z.string().min(1).optional(),
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
    unsaid: (entry) => unsaidBy(server, entry),
    open: (entry, context) => openTextServer(server, entry, context),
    check: (entry) => checkTextServer(server, entry),
    page: pageReader(server, {}),
  };
}

/** What no page of a server says under an entry. */
export function unsaidBy(
  { labels, neverSplits, withoutTokens }: Pick<TextServer, "labels" | "neverSplits" | "withoutTokens">,
  entry: Pick<Entry, "tenantLabel" | "endpointLabel" | "productEndpoint">,
): readonly Unsaid[] {
  const endpoint = entry.endpointLabel ?? entry.productEndpoint ?? labels.endpointLabel;
  return [
    ...((entry.tenantLabel ?? labels.tenantLabel) === undefined ? (["tenant"] as const) : []),
    ...(endpoint === undefined ? (["endpoint"] as const) : []),
    ...(neverSplits === true ? (["cached input"] as const) : []),
    ...(withoutTokens === "never" ? (["tokens"] as const) : []),
  ];
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
    read: (page, noting) => readPage(server, labels, page, noting),
  };
}

/** `bases`: what was counted of each series, and `shown`: which ranks are there, where pages are read one after the other. */
function readPage(
  server: TextServer,
  labels: ReaderOptions,
  read: MetricPage,
  noting?: "noting",
  bases?: SeriesBases,
  shown?: ShownRanks,
): PageReading {
  const page = inAnySpelling(read);
  const refused = refusal(server, page);
  if (refused !== undefined) return nothing(page, `this page is no engine of this host: ${refused}`);
  const readings = new PageReadings(page, server.volume, labels, noting, bases);
  server.read(readings);
  const whole = readings.finish();
  const told = server.ranks === undefined ? undefined : ranksOn(readings, server.ranks, shown);
  const reading =
    told === undefined
      ? whole
      : withRanks(whole, told.ranks, (value) => {
          const rank = { label: told.label, value };
          const part = new PageReadings(page, server.volume, labels, undefined, bases, rank);
          server.read(part);
          return part.finish();
        });
  const missing = missingTokens(server, reading.readings);
  return missing === undefined ? reading : { ...reading, errors: [...reading.errors, missing] };
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

/** Throws SourceError (misconfigured) where an entry asks for a scope its pages cannot give. */
export function checkTextServer(server: TextServer, entry: Entry): void {
  const label = entry.upstreamLabel ?? server.labels.upstreamLabel;
  checkGatewayScope(server.name, server.family, entry, label === undefined ? "untold" : "told");
}

/** A source that polls the page. Throws SourceError (misconfigured) when the address cannot be read. */
export function openTextServer(server: TextServer, entry: Entry, context: SourceContext): PullServerSource {
  checkTextServer(server, entry);
  const pollMs = entry.pollMs ?? context.scrapeMs ?? POLL_MS;
  const info = serverInfo(server.name, server.family, entry, pollMs, context.hostNames);
  const fetcher = openFetcher(server, entry, context);
  const frozen = watchFrozen(context.clock);
  const follower = new PageFollower(server, entry, info, context);
  const locatedAll = locatedOnce(info);
  return {
    kind: "pull",
    info,
    poll: async (): Promise<TokenSample> => {
      const sent = context.clock.now();
      let taken: Taken;
      try {
        taken = await fetcher.fetch((page) => follower.take(page, sent), context.signal);
      } catch (error) {
        follower.noteFailedLook();
        throw error;
      }
      const { at, counted, headers, limits, received, reading } = taken;
      const { readings, ignoredSamples, errors, activeNanos, gpus, phaseTimes } = reading;
      const header = server.epochHeader === undefined ? undefined : headers[server.epochHeader];
      return {
        server: info.id,
        family: info.family,
        sent,
        received,
        at,
        readings: locatedAll(readings, header, counted.began, counted.isSame),
        scale: follower.bases.scale,
        restarts: counted.restarts,
        notes: counted.notes,
        ignoredSamples,
        errors: [...errors, ...complaints(readings, frozen)],
        ...(counted.isOlder ? { isOlder: true as const } : {}),
        ...(counted.doubtful ? { doubt: "partial_counters" as const } : {}),
        ...defined({ activeNanos, phaseTimes, gpus: info.gpus ?? gpus, limits, pids: info.pids }),
      };
    },
    state: () => follower.bases.takeChanges(["receiver", info.id], (at) => context.clock.unixNanos(at)),
    close: async () => fetcher.close(),
  };
}

function openFetcher(server: TextServer, entry: Entry, context: SourceContext): PageFetcher {
  const { tls, bearerFile, headers, bytesMax, timeoutMs } = entry;
  return createPageFetcher(
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
}

/** Reads the pages of one server one after the other. */
class PageFollower {
  readonly bases: SeriesBases;
  readonly #server: TextServer;
  readonly #context: SourceContext;
  readonly #labels: ReaderOptions;
  readonly #parser: PageParser;
  readonly #explain: ReturnType<typeof explainOnce>;
  readonly #limits: LimitPages | undefined;
  readonly #ranks: ShownRanks | undefined;
  /**
   * What the last page was read as, where it showed what the one before it did, and while one that shows the same means the
   * same. Of a page that moved nothing is kept: the next one will have moved too, and thousands of readings would grow old.
   */
  #last: PageReading | undefined;
  /** Pages of an earlier run came over a connection that is gone, and looks were missed since. */
  #failed = true;

  constructor(server: TextServer, entry: Entry, info: ServerInfo, context: SourceContext) {
    this.#server = server;
    this.#context = context;
    this.#labels = { ...server.labels, ...defined(entry) };
    this.#parser = createPageParser(
      server.families.map(filedName),
      server.limits && limitFamilies(server.limits),
    );
    this.#explain = explainOnce(server, context);
    this.#limits = server.limits && new LimitPages(server.limits, this.#labels);
    this.#ranks = server.ranks && new ShownRanks(server.ranks);
    this.bases = new SeriesBases({
      bornAtZero: server.bornAtZero === true,
      rows: context.remembered?.(info.id) ?? [],
      instant: (at) => context.clock.instant(at),
    });
  }

  /** The look failed: nothing is known of what came between the pages before and after. */
  noteFailedLook(): void {
    this.#failed = true;
  }

  /** Takes in a page that was asked for at `sent`. */
  take(fetched: FetchedPage, sent: Nanos): Taken {
    const received = this.#context.clock.now();
    const at = sent + Math.round((received - sent) / 2);
    const page = this.#parser.parse(fetched.body, fetched.complete ? "complete" : "open");
    const counted = this.bases.take(page, {
      at,
      ...processOf(page, this.#server, fetched, this.#context),
      interrupted: this.#failed ? "failed" : fetched.renewed ? "renewed" : undefined,
      whole: fetched.complete && page.ignoredSamples === 0 && page.errors.length === 0,
    });
    this.#failed = false;
    const last = counted.isSame ? this.#last : undefined;
    // Until this page is read: what was before it is not what the next one may repeat.
    this.#last = undefined;
    if (last === undefined) this.#ranks?.take(page);
    const reading = last ?? this.#read(fetched, counted);
    if (counted.isSame && reading.errors.length === 0) this.#last = reading;
    const limits = this.#limits?.take(page.aside, at);
    return { at, counted, headers: fetched.headers, limits, received, reading };
  }

  #read(fetched: FetchedPage, { page }: CountedPage): PageReading {
    const read = readPage(this.#server, this.#labels, page, undefined, this.bases, this.#ranks);
    return { ...read, errors: this.#explain(fetched.body, read) };
  }
}

/** A page that was taken in. */
interface Taken {
  readonly at: Nanos;
  readonly counted: CountedPage;
  readonly headers: FetchedPage["headers"];
  readonly received: Nanos;
  readonly reading: PageReading;
  readonly limits: TokenSample["limits"];
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

/** The URL of the page behind `host:port`, `unix:/socket` or a URL with or without path. */
export function pageUrl(endpoint: string, path: string, tls: boolean): string {
  if (endpoint.startsWith("unix:")) return endpoint.includes(":/", 6) ? endpoint : `${endpoint}:${path}`;
  if (!/^https?:\/\//.test(endpoint)) return `${tls ? "https" : "http"}://${endpoint}${path}`;
  return /^https?:\/\/[^/]+\/?$/.test(endpoint) ? endpoint.replace(/\/?$/, path) : endpoint;
}

/** `host:port`, an http(s) address or `unix:/path[:/page]`. */
export function parsePageAddress(text: string): Parsed {
  if (/^https?:\/\//i.test(text)) return parseWebAddress(splitCredentials(text).address);
  const parsed = parseUnixSocket(text) ?? parseHostPort(text);
  return isFault(parsed) ? { ...parsed, wanted: `${parsed.wanted} or an address with http://` } : parsed;
}
