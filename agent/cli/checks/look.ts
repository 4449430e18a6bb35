// What discovery finds on this host, for the checks that need it: from the running daemon's /-/status, else looked up
// once by the daemon's own searches. Nothing found here is read beyond one first reading, and nothing is booked.
import { join } from "node:path";
import type { Config, LoadedConfig } from "../../config/load.ts";
import { Placement } from "../../correlate/placement.ts";
import { chooseGpu, openServers } from "../../daemon/sources.ts";
import type { HostStatus } from "../../discovery/host.ts";
import { HostWatch } from "../../discovery/host.ts";
import type { KubernetesStatus } from "../../discovery/kubernetes.ts";
import { KubernetesWatch } from "../../discovery/kubernetes.ts";
import type { ProcessReading } from "../../host/processes.ts";
import type { GpuInfo, GpuSample, ServerInfo, TokenSample } from "../../model.ts";
import type { GpuSource, ServerSource, SourceContext } from "../../source.ts";
import { readStatus } from "../common/daemon-process.ts";
import type { CheckContext, Finding } from "./check.ts";
import { reasonOf, within } from "./check.ts";
import { firstReading, judgeSample } from "./reading.ts";

const STATUS_MS = 2000;
const LOOK_MS = 25_000;
const READ_MS = 8000;

/** A server as both the status and a look of its own tell it: facts whose names are one word, alike in either. */
export type LookedAt = Pick<ServerInfo, "id" | "address" | "family" | "gpus" | "pod">;

/** What was found, and by whom. */
export interface Look {
  readonly by: "the running daemon" | "a look of its own";
  readonly host: HostStatus;
  readonly kubernetes: KubernetesStatus;
  /** Servers that count tokens on GPUs, configured or found. */
  readonly engines: readonly LookedAt[];
  /** Ids of those whose GPUs are known. */
  readonly placed: ReadonlySet<string>;
  /** Verdicts on servers that were found. */
  readonly found: readonly Finding[];
}

/** Why nothing can be said. */
export interface NoLook {
  readonly failed: string;
}

const looks = new WeakMap<LoadedConfig, Promise<Look | NoLook>>();

/** What discovery finds; looked up once for all checks of a run. Never rejects. */
export function lookOf(context: CheckContext, loaded: LoadedConfig): Promise<Look | NoLook> {
  const known = looks.get(loaded) ?? look(context, loaded.config);
  looks.set(loaded, known);
  return known;
}

async function look(context: CheckContext, config: Config): Promise<Look | NoLook> {
  const status = await readStatus(config.export.prometheus, STATUS_MS);
  const seen = status === undefined ? undefined : lookOfStatus(status);
  if (seen !== undefined) return seen;
  const stop = new AbortController();
  try {
    return await within(context, LOOK_MS, "looking for servers", lookOnce(context, config, stop.signal));
  } catch (error) {
    return { failed: reasonOf(error).seen };
  } finally {
    stop.abort();
  }
}

interface DaemonStatus {
  readonly host?: {
    readonly discovery?: Partial<HostStatus>;
    readonly kubernetes?: Partial<KubernetesStatus>;
  };
  readonly servers?: readonly LookedAt[];
  readonly gpus?: readonly Pick<GpuInfo, "parent" | "uuid">[];
  readonly correlation?: { readonly placements?: readonly { readonly server?: string }[] };
  readonly sources?: Readonly<Record<string, SourceStatus>>;
}

interface SourceStatus {
  readonly ok: boolean;
  readonly reason: string | null;
  /** What its counters did that they should not do. */
  readonly counters?: readonly {
    readonly kind: string;
    readonly times: number;
    readonly last: string;
    readonly hint: string | null;
    readonly last_seconds_ago: number | null;
  }[];
}

/** What a daemon's status says; undefined where it is of a version that says less. Exported for its test: statuses of every kind. */
export function lookOfStatus(status: Readonly<Record<string, unknown>>): Look | undefined {
  const { correlation, gpus = [], host, servers = [], sources = {} } = status as DaemonStatus;
  const { discovery, kubernetes } = host ?? {};
  if (discovery?.ports === undefined || discovery.gpu_processes === undefined) return undefined;
  if (kubernetes?.from === undefined) return undefined;
  const places = [...Object.values(discovery.ports), ...Object.values(kubernetes.pods ?? {})];
  const found = new Set(places.flatMap(({ server, state }) => (state === "found" ? (server ?? []) : [])));
  const engines = servers.filter(({ family }) => family === "engine");
  return {
    by: "the running daemon",
    host: discovery as HostStatus,
    kubernetes: kubernetes as KubernetesStatus,
    engines,
    placed: new Set([
      ...withGpus(engines, gpus),
      ...(correlation?.placements ?? []).flatMap(({ server }) => server ?? []),
    ]),
    found: [
      ...servers
        .filter(({ id }) => found.has(id))
        .map((info) => judgeSource(info, sources[`server:${info.id}`])),
      ...servers.flatMap((info) => judgeCounters(info, sources[`server:${info.id}`])),
    ],
  };
}

/** Counters that did not go on, as the daemon saw within the last day. Series that only went are no fault. */
function judgeCounters({ id, address }: LookedAt, health: SourceStatus | undefined): Finding[] {
  const noted = (health?.counters ?? []).filter(
    ({ kind, last_seconds_ago }) => kind !== "gone" && (last_seconds_ago ?? 0) < 86_400,
  );
  return noted.map(({ hint, last, times }) => ({
    id: "server.counters",
    subject: id,
    verdict: "warn",
    seen: `${last} (${times} times; nothing of it is counted twice, some may not be counted)`,
    remedy:
      hint ?? `\`tokenwatt probe ${address}\` shows the page; what is held back is in tokenwatt.dropped`,
  }));
}

function judgeSource(info: LookedAt, health: SourceStatus | undefined): Finding {
  const base = { id: "server.reachable", subject: info.id };
  if (health?.ok === false) {
    const seen = health.reason ?? "the daemon cannot read it";
    return {
      ...base,
      verdict: "fail",
      seen,
      remedy: `\`tokenwatt probe ${info.address}\` shows what it answers`,
    };
  }
  return {
    ...base,
    verdict: "ok",
    seen: `found without configuration; the daemon reads it at ${info.address}`,
  };
}

/** Looks with the daemon's own searches, and reads what they find once. */
async function lookOnce(context: CheckContext, config: Config, signal: AbortSignal): Promise<Look> {
  const inner: SourceContext = { ...context, signal };
  const configured = openServers(config, inner).map(({ source }) => source);
  const servers = new Map(configured.map(({ info }) => [info.id, info]));
  const opened: ServerSource[] = [];
  const lastGpuSamples = new Map<string, GpuSample>();
  const lastTokenSamples = new Map<string, TokenSample>();
  const pipeline = {
    intake: { servers, lastGpuSamples, lastTokenSamples },
    addServer: (source: ServerSource): void => {
      opened.push(source);
      servers.set(source.info.id, source.info);
    },
    removeServer: async (): Promise<void> => {},
  };
  try {
    const [gpus] = await Promise.all([
      readGpus(config, inner, lastGpuSamples),
      ...configured.map((source) => sampleOf(inner, source, lastTokenSamples)),
    ]);
    const scrapeMs = config.rates.scrapeMs;
    const { discovery } = config;
    let facts: readonly ProcessReading[] = [];
    const correlator = {
      setProcessFacts: (readings: readonly ProcessReading[]): void => {
        facts = readings;
      },
    };
    const kubernetes = new KubernetesWatch({ context: inner, pipeline, discovery, scrapeMs });
    if (discovery.kubernetes !== "off") await kubernetes.look();
    const proc = join(context.root, "proc");
    const parts = { ...inner, context: inner, pipeline, correlator, scrapeMs, proc };
    const host = new HostWatch({ ...parts, discover: discovery.enabled });
    await host.look();
    const engines = [...servers.values()].filter(({ family }) => family === "engine");
    return {
      by: "a look of its own",
      host: host.status(),
      kubernetes: kubernetes.status(),
      engines,
      placed: new Set([...withGpus(engines, gpus), ...placedOf(engines, facts, gpus, lastGpuSamples)]),
      found: (await Promise.all(opened.map((source) => readOnce(inner, source)))).flat(),
    };
  } finally {
    await Promise.allSettled([...configured, ...opened].map((source) => source.close()));
  }
}

/** A configured server's reading shows whether one that is found is the same. */
async function sampleOf(
  context: SourceContext,
  source: ServerSource,
  samples: Map<string, TokenSample>,
): Promise<void> {
  if (source.kind !== "pull") return;
  try {
    const sample = await within(context, READ_MS, `asking ${source.info.address}`, source.poll());
    samples.set(source.info.id, sample);
  } catch {
    // server.reachable says what is wrong.
  }
}

/** Those that name a GPU of this host; any, where none can be read: gpu.backend says what is wrong then. */
function withGpus(
  engines: readonly LookedAt[],
  here: readonly Pick<GpuInfo, "parent" | "uuid">[],
): readonly string[] {
  const names = new Set(here.flatMap(({ parent, uuid }) => [uuid, parent ?? uuid]));
  const isHere = (gpu: string): boolean => names.size === 0 || names.has(gpu);
  return engines.filter(({ gpus = [] }) => gpus.some(isHere)).map(({ id }) => id);
}

/** Fills `samples` from the first backend that works; without one there are none. */
async function readGpus(
  config: Config,
  context: SourceContext,
  samples: Map<string, GpuSample>,
): Promise<readonly GpuInfo[]> {
  let source: GpuSource | undefined;
  try {
    ({ source } = await chooseGpu(config, context));
    const infos = (await source?.inventory()) ?? [];
    for (const sample of (await source?.poll())?.samples ?? []) samples.set(sample.gpu, sample);
    return infos;
  } catch {
    // gpu.backend and gpu.reading say what is wrong.
    return [];
  } finally {
    await source?.close().catch(() => {});
  }
}

function placedOf(
  engines: readonly ServerInfo[],
  facts: readonly ProcessReading[],
  gpus: readonly GpuInfo[],
  samples: ReadonlyMap<string, GpuSample>,
): readonly string[] {
  const placement = new Placement();
  placement.setServers(engines, new Map());
  placement.setFacts(facts);
  return [...samples.values()].flatMap(({ gpu, processes = [] }) => {
    const parent = gpus.find(({ uuid }) => uuid === gpu)?.parent;
    const pids = processes.map(({ pid }) => pid);
    return placement.place(gpu, parent, pids).flatMap(({ server }) => server ?? []);
  });
}

async function readOnce(context: SourceContext, source: ServerSource): Promise<readonly Finding[]> {
  const { info } = source;
  const base = { id: "server.reachable", subject: info.id };
  const remedy = `\`tokenwatt probe ${info.address}\` shows what it answers`;
  try {
    const reading = await within(context, READ_MS, `asking ${info.address}`, firstReading(source));
    if ("reason" in reading) return [{ ...base, verdict: "fail", seen: reading.reason, remedy }];
    return judgeSample(info, reading);
  } catch (error) {
    const { hint, seen } = reasonOf(error);
    return [{ ...base, verdict: "fail", seen, remedy: hint ?? remedy }];
  }
}
