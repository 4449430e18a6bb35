// GetLoads of engines in gRPC mode: sglang.grpc.scheduler, vllm.grpc.engine and tokenspeed.grpc.scheduler (protos of
// smg-grpc-proto 0.4.28, what fills them from smg-grpc-servicer 0.14.1). Three dialects with one shape and different
// field numbers, chosen by the service's full name, which the method path carries: one can never be decoded with
// another's table. All of it is gauges. Output is integrated from gen_throughput per data-parallel rank (volume
// `estimate`), once a rate was seen: TokenSpeed and older vLLM never set it. vLLM's zeros are "unknown" until a request
// was once seen running.
import type { Nanos, RankReading, TokenReading } from "../model.ts";
import { tagOf, WireReader } from "../platform/protobuf-reader.ts";
import { MessageWriter } from "../platform/protobuf-writer.ts";
import type { SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import type { GrpcPeer } from "./call/call.ts";
import { callUnary, reflectServices } from "./call/call.ts";
import type { LoadService, ServerFacts } from "./call/get-loads-facts.ts";
import { readServerFacts } from "./call/get-loads-facts.ts";
import type { GrpcServerEntry } from "./call/server.ts";
import { grpcServer } from "./call/server.ts";
import { defined } from "./entry.ts";
import { startEpoch } from "./page/labels.ts";

/** Field numbers of SchedulerLoad; running is 2 and waiting 3 in all three. */
export interface LoadFields {
  readonly tokenUsage: number;
  readonly genThroughput: number;
  /** Its rate is the mean of the last seconds and falls to zero by itself; else the last rate stays while idle. */
  readonly windowed?: true;
  /** It shows zeros before its first step. */
  readonly zerosFirst?: true;
}

interface Dialect extends LoadFields {
  readonly service: LoadService;
}

const DIALECTS: readonly Dialect[] = [
  { service: "sglang.grpc.scheduler.SglangScheduler", tokenUsage: 7, genThroughput: 8 },
  {
    service: "vllm.grpc.engine.VllmEngine",
    tokenUsage: 7,
    genThroughput: 8,
    windowed: true,
    zerosFirst: true,
  },
  { service: "tokenspeed.grpc.scheduler.TokenSpeedScheduler", tokenUsage: 8, genThroughput: 9 },
];

/** No engine has more requests, or makes more tokens in a second. */
const PLAUSIBLE_MAX = 1e9;

/** Engines that answer GetLoads. */
export const getLoads = grpcServer({
  name: "get-loads",
  service: "GetLoads",
  port: 50051,
  connect: (peer, entry, context) => connect(peer, entry, context),
});

/** The load of one data-parallel rank, now. */
export interface RankLoad {
  readonly rank: number;
  readonly running: number;
  readonly waiting: number;
  readonly tokenUsage: number;
  readonly genThroughput: number;
}

/** A GetLoadsResponse: its ranks, and the engine's version. */
export interface Loads {
  readonly ranks: readonly RankLoad[];
  readonly version: string | undefined;
}

function connect(
  peer: GrpcPeer,
  _entry: GrpcServerEntry,
  context: SourceContext,
): () => Promise<{ readings: readonly TokenReading[]; version?: string | undefined }> {
  const began = context.clock.now();
  let output: ReturnType<typeof integrator> | undefined;
  let dialect: Dialect | undefined;
  let facts: ServerFacts = {};
  let wasRunning = false;
  return async () => {
    if (dialect === undefined) {
      dialect = await chooseDialect(peer);
      facts = await readServerFacts(peer, dialect.service);
    }
    const table = dialect;
    const { ranks, version } = await callUnary(peer, `/${table.service}/GetLoads`, coreOnly(), (bytes) =>
      decodeLoads(bytes, table),
    );
    output ??= integrator(table.windowed === true);
    const made = output(ranks, context.clock.now());
    const tokens = made === undefined ? undefined : Math.floor(total(made));
    const running = sum(ranks, (load) => load.running);
    wasRunning ||= running > 0;
    const known = wasRunning || table.zerosFirst === undefined;
    const reading: TokenReading = {
      role: facts.role ?? "combined",
      tokens: defined({ output: tokens }),
      requests: {},
      volume: "estimate",
      ...defined({
        model: facts.model,
        running: known ? running : undefined,
        waiting: known ? sum(ranks, (load) => load.waiting) : undefined,
        kvCacheUtilization:
          known && ranks.length > 0 ? sum(ranks, (load) => load.tokenUsage) / ranks.length : undefined,
        // The integral starts with this channel, whatever the server's own age.
        epoch: tokens === undefined ? undefined : startEpoch(Number(context.clock.unixNanos(began)) / 1e9),
        epochBegan: tokens === undefined ? undefined : began,
        ranks: known && ranks.length > 1 ? ranks.map((load) => rankOf(load, made)) : undefined,
      }),
    };
    return { readings: [reading], version: facts.version ?? version };
  };
}

/** The dialect whose service the peer has: by reflection, else by asking each for its loads. */
async function chooseDialect(peer: GrpcPeer): Promise<Dialect> {
  const services = await reflectServices(peer);
  for (const dialect of DIALECTS) {
    if (services === undefined ? await answers(peer, dialect) : services.includes(dialect.service))
      return dialect;
  }
  const seen = services === undefined ? "none of the known services" : services.join(", ");
  throw new SourceError("transient", `Cannot read GetLoads at ${peer.target.target}: it serves ${seen}`, {
    hint: `wanted one of ${DIALECTS.map(({ service }) => service).join(", ")}`,
  });
}

async function answers(peer: GrpcPeer, dialect: Dialect): Promise<boolean> {
  const ask = callUnary(peer, `/${dialect.service}/GetLoads`, coreOnly(), (bytes) => bytes);
  return ask
    .then(() => true)
    .catch((error: { code?: number }) => {
      if (error.code === 12) return false;
      throw error;
    });
}

/** GetLoadsRequest{include: ["core"]}. */
function coreOnly(): Buffer {
  const writer = new MessageWriter();
  writer.text(2, "core");
  return writer.finish();
}

/**
 * A GetLoadsResponse (version = 2, loads = 4), by the field numbers of `dialect`.
 * Exported for its test: broken messages.
 */
export function decodeLoads(bytes: Uint8Array, dialect: LoadFields): Loads {
  const reader = new WireReader(bytes);
  const ranks: RankLoad[] = [];
  let version: string | undefined;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(2, "bytes")) version = reader.text() || undefined;
    else if (tag === tagOf(4, "bytes") && ranks.length < 1024) {
      const load = readLoad(reader, dialect);
      if (Math.max(load.rank, load.running, load.waiting) <= PLAUSIBLE_MAX) ranks.push(load);
    } else reader.skip(tag);
  }
  return { ranks, version };
}

function readLoad(reader: WireReader, dialect: LoadFields): RankLoad {
  const whole = new Map<number, number>();
  const ratio = new Map<number, number>();
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag % 8 === 0) whole.set(Math.floor(tag / 8), reader.uint());
    else if (tag % 8 === 1) ratio.set(Math.floor(tag / 8), reader.double());
    else reader.skip(tag);
  }
  reader.leave(outer);
  const rate = finite(ratio.get(dialect.genThroughput));
  return {
    rank: whole.get(1) ?? 0,
    running: whole.get(2) ?? 0,
    waiting: whole.get(3) ?? 0,
    tokenUsage: Math.min(1, Math.max(0, finite(ratio.get(dialect.tokenUsage)))),
    genThroughput: rate > PLAUSIBLE_MAX ? 0 : Math.max(0, rate),
  };
}

function finite(value: number | undefined): number {
  return value !== undefined && Number.isFinite(value) ? value : 0;
}

/** The part of a rank. */
function rankOf(load: RankLoad, made: ReadonlyMap<number, number> | undefined): RankReading {
  const { rank, running, waiting } = load;
  const output = made?.get(rank);
  const tokens = output === undefined ? {} : { output: Math.floor(output) };
  return { rank: String(rank), tokens, running, waiting };
}

/**
 * Integrates tokens per second per rank; undefined until a rate was seen. Where a rate is no mean of a window, an idle
 * rank's last one, which some servers keep showing, counts nothing.
 */
function integrator(
  windowed: boolean,
): (loads: readonly RankLoad[], now: Nanos) => ReadonlyMap<number, number> | undefined {
  let before: { readonly at: Nanos; readonly rates: ReadonlyMap<number, number> } | undefined;
  let made: Map<number, number> | undefined;
  return (loads, now) => {
    if (loads.some((load) => load.genThroughput > 0)) made ??= new Map();
    const rates = new Map(
      loads.map((load) => [load.rank, windowed || load.running > 0 ? load.genThroughput : 0]),
    );
    if (before !== undefined && made !== undefined) {
      const seconds = (now - before.at) / 1e9;
      for (const [rank, rate] of rates)
        made.set(rank, (made.get(rank) ?? 0) + ((rate + (before.rates.get(rank) ?? 0)) / 2) * seconds);
    }
    before = { at: now, rates };
    return made;
  };
}

function total(made: ReadonlyMap<number, number>): number {
  let all = 0;
  for (const tokens of made.values()) all += tokens;
  return all;
}

function sum(loads: readonly RankLoad[], of: (load: RankLoad) => number): number {
  return loads.reduce((total, load) => total + of(load), 0);
}
