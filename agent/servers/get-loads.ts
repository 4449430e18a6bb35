// GetLoads of engines in gRPC mode: sglang.grpc.scheduler, vllm.grpc.engine and tokenspeed.grpc.scheduler (smg
// crates/grpc_client/proto, 2026). Three dialects with one shape and different field numbers, chosen by the service's
// full name, which the method path carries: one can never be decoded with another's table.
// All of it is gauges. Output is integrated from gen_throughput per data-parallel rank (volume `estimate`); vLLM never
// sets it, nor anything before its first step, so its zeros are "unknown" until a request was once seen running.
import type { Nanos, TokenReading } from "../model.ts";
import type { SourceContext } from "../source.ts";
import { SourceError } from "../source.ts";
import { defined } from "./entry.ts";
import type { ServerFacts } from "./get-loads-facts.ts";
import { readServerFacts } from "./get-loads-facts.ts";
import type { GrpcPeer } from "./grpc-call.ts";
import { callUnary, reflectServices } from "./grpc-call.ts";
import type { GrpcServerEntry } from "./grpc-server-type.ts";
import { grpcServer } from "./grpc-server-type.ts";
import { startEpoch } from "./page-labels.ts";
import { tagOf, WireReader, WireWriter } from "./wire.ts";

/** Field numbers of SchedulerLoad; running is 2 and waiting 3 in all three. */
interface LoadFields {
  readonly tokenUsage: number;
  readonly genThroughput: number | undefined;
}

const DIALECTS = [
  { service: "sglang.grpc.scheduler.SglangScheduler", tokenUsage: 7, genThroughput: 8 },
  { service: "vllm.grpc.engine.VllmEngine", tokenUsage: 7, genThroughput: undefined },
  { service: "tokenspeed.grpc.scheduler.TokenSpeedScheduler", tokenUsage: 8, genThroughput: 9 },
] as const;
type Dialect = (typeof DIALECTS)[number];

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
  readonly genThroughput: number | undefined;
}

function connect(
  peer: GrpcPeer,
  _entry: GrpcServerEntry,
  context: SourceContext,
): () => Promise<{ readings: readonly TokenReading[]; version?: string | undefined }> {
  const began = context.clock.now();
  const output = integrator();
  let dialect: Dialect | undefined;
  let facts: ServerFacts = {};
  let wasRunning = false;
  return async () => {
    if (dialect === undefined) {
      dialect = await chooseDialect(peer);
      facts = await readServerFacts(peer, dialect.service);
    }
    const { service } = dialect;
    const table = dialect;
    const loads = await callUnary(peer, `/${service}/GetLoads`, coreOnly(), (bytes) =>
      decodeLoads(bytes, table),
    );
    const running = sum(loads, (load) => load.running);
    wasRunning ||= running > 0;
    const known = wasRunning || table.genThroughput !== undefined;
    const tokens = table.genThroughput === undefined ? {} : { output: output(loads, context.clock.now()) };
    const reading: TokenReading = {
      role: facts.role ?? "combined",
      tokens,
      requests: {},
      volume: "estimate",
      ...defined({
        model: facts.model,
        running: known ? running : undefined,
        waiting: known ? sum(loads, (load) => load.waiting) : undefined,
        kvCacheUtilization:
          known && loads.length > 0 ? sum(loads, (load) => load.tokenUsage) / loads.length : undefined,
        // The integral starts with this channel, whatever the server's own age.
        epoch:
          table.genThroughput === undefined
            ? undefined
            : startEpoch(Number(context.clock.unixNanos(began)) / 1e9),
        epochBegan: table.genThroughput === undefined ? undefined : began,
      }),
    };
    return { readings: [reading], version: facts.version };
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
  const writer = new WireWriter();
  writer.text(2, "core");
  return writer.finish();
}

/** The ranks of a GetLoadsResponse (loads = 4), by the field numbers of `dialect`. */
export function decodeLoads(bytes: Uint8Array, dialect: LoadFields): RankLoad[] {
  const reader = new WireReader(bytes);
  const loads: RankLoad[] = [];
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag !== tagOf(4, "bytes") || loads.length >= 1024) {
      reader.skip(tag);
      continue;
    }
    const load = readLoad(reader, dialect);
    if (Math.max(load.rank, load.running, load.waiting) <= PLAUSIBLE_MAX) loads.push(load);
  }
  return loads;
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
  const rate = dialect.genThroughput === undefined ? undefined : (ratio.get(dialect.genThroughput) ?? 0);
  return {
    rank: whole.get(1) ?? 0,
    running: whole.get(2) ?? 0,
    waiting: whole.get(3) ?? 0,
    tokenUsage: Math.min(1, Math.max(0, finite(ratio.get(dialect.tokenUsage)))),
    genThroughput: rate === undefined || rate > PLAUSIBLE_MAX ? undefined : Math.max(0, finite(rate)),
  };
}

function finite(value: number | undefined): number {
  return value !== undefined && Number.isFinite(value) ? value : 0;
}

/** Integrates tokens per second per rank; an idle rank's last rate, which some servers keep showing, counts nothing. */
function integrator(): (loads: readonly RankLoad[], now: Nanos) => number {
  let before: { readonly at: Nanos; readonly rates: ReadonlyMap<number, number> } | undefined;
  let total = 0;
  return (loads, now) => {
    const rates = new Map(loads.map((load) => [load.rank, load.running > 0 ? (load.genThroughput ?? 0) : 0]));
    if (before !== undefined) {
      const seconds = (now - before.at) / 1e9;
      for (const [rank, rate] of rates) total += ((rate + (before.rates.get(rank) ?? 0)) / 2) * seconds;
    }
    before = { at: now, rates };
    return Math.floor(total);
  };
}

function sum(loads: readonly RankLoad[], of: (load: RankLoad) => number): number {
  return loads.reduce((total, load) => total + of(load), 0);
}
