// Takes readings in: increments, correlator, gauges and health of each source. Failures become gaps, never old values.
// Nothing here sets a timer; pipeline.ts decides when sources are read.

import type { BookFacts } from "../meter/books.ts";
import type { Accepted } from "../meter/counters/increments.ts";
import { DeviceCounters, GapTimes } from "../meter/device-counters.ts";
import {
  gatewayInfoGauge,
  gpuGauges,
  gpuInfoGauge,
  serverGauges,
  serverInfoGauge,
  statusGauges,
} from "../meter/gauges.ts";
import { PowerLimits } from "../meter/power-limits.ts";
import type {
  Gap,
  GpuInfo,
  GpuSample,
  Nanos,
  ServerInfo,
  SourceNote,
  StateRow,
  TokenSample,
} from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { GpuPoll } from "../source.ts";
import { SourceError } from "../source.ts";
import type { Core } from "./accounting.ts";
import { RecordKeeper } from "./audit-record.ts";
import type { FlightRecorder } from "./flight-recorder.ts";
import { recordedTokens } from "./flight-recorder.ts";
import { lastSampleOf } from "./last-sample.ts";
import type { PipelineLife } from "./life.ts";
import { SourceHealth } from "./source-health.ts";

/** Key of the row that lists the GPUs. */
export const GPUS_KEY = '["gpus"]';

/** What readings are taken into. */
export interface IntakeParts extends Core {
  readonly clock: Clock;
  readonly log: Log;
  readonly gpuPollMs: number;
  readonly inventoryMs: number;
  /** Remembers the last readings for the case that a law breaks. */
  readonly flight?: FlightRecorder;
  readonly life: Pick<PipelineLife, "needRestart">;
}

/** Drivers print limits rounded differently. */
const LIMIT_STEP_WATTS = 0.5;

/** The increments of a sample whose requests are booked at times of their own: what is left are its latencies. */
function withoutUsage(accepted: Accepted, usage: TokenSample["usage"]): Accepted {
  if (usage === undefined) return accepted;
  const increments = accepted.increments.map(({ tokensByOutcome: _, ...one }) => ({
    ...one,
    tokens: {},
    requests: {},
  }));
  return { ...accepted, increments };
}

/** What is known now of GPUs, servers and sources, and the way new readings take into the meter. */
export class Intake {
  readonly #parts: IntakeParts;
  readonly health = new SourceHealth();
  readonly gpus = new Map<string, GpuInfo>();
  readonly servers = new Map<string, ServerInfo>();
  readonly lastGpuSamples = new Map<string, GpuSample>();
  /** As far as they are asked for. */
  readonly lastTokenSamples = new Map<string, TokenSample>();
  readonly #deviceCounters = new DeviceCounters();
  readonly #gapTimes = new GapTimes();
  readonly #powerLimits = new PowerLimits();
  /** Boards whose MIG instances are known. */
  #sliced: ReadonlySet<string> = new Set();
  #enumerated = false;

  readonly record: RecordKeeper;

  constructor(parts: IntakeParts) {
    this.#parts = parts;
    this.record = new RecordKeeper(parts.books, parts.clock);
  }

  /** The GPUs of this host, to be stored with a beat: the next start expects them. */
  gpusRow(): StateRow {
    return { key: GPUS_KEY, value: JSON.stringify([...this.gpus.values()]) };
  }

  /** GPUs that an earlier run had: until a reader finds or misses them their time is `unobserved`. */
  expectGpus(infos: readonly GpuInfo[]): void {
    const { correlator } = this.#parts;
    for (const info of infos) this.gpus.set(info.uuid, info);
    correlator.setGpus(infos, correlator.settledUntil);
  }

  /** Replaces the GPUs; those no longer named end. */
  setGpus(infos: readonly GpuInfo[]): void {
    const { books, clock, correlator, log } = this.#parts;
    const gone = [...this.gpus.keys()].filter((uuid) => !infos.some((info) => info.uuid === uuid));
    const come = infos.map(({ uuid }) => uuid).filter((uuid) => !this.gpus.has(uuid));
    // Between going and coming back a GPU has no time; its first time at all needs no record.
    if (gone.length > 0 || (come.length > 0 && (this.#enumerated || this.gpus.size > 0)))
      books.noteAudit("gpus", clock.now(), { gone, come });
    for (const uuid of gone) {
      const { name, parent } = this.gpus.get(uuid) ?? {};
      log.warn("GPU left", { source: `gpu:${uuid}`, name, parent });
      books.noteAudit("gpu", clock.now(), { gpu: uuid, name, parent, why: "left" });
      this.lastGpuSamples.delete(uuid);
      this.#forget(`gpu:${uuid}`);
      books.ledger.endWhere((dimensions) => dimensions["hw.id"] === uuid);
    }
    this.#sliced = new Set(infos.flatMap(({ parent }) => parent ?? []));
    this.gpus.clear();
    for (const info of infos) {
      this.gpus.set(info.uuid, info);
      if (info.powerLimitWatts !== undefined)
        this.#powerLimits.noteLimit(info.uuid, info.powerLimitWatts, clock.now());
    }
    // GPUs found first were there since the agent started: until their first reading they are unobserved.
    correlator.setGpus(infos, this.#enumerated ? clock.now() : correlator.settledUntil);
    this.#enumerated = true;
  }

  addServer(info: ServerInfo): void {
    this.servers.set(info.id, info);
    this.#announceServers();
  }

  /** Forgets the servers of a target and ends their series. */
  removeServer(target: ServerInfo): void {
    for (const [id, info] of this.servers) {
      if (id !== target.id && (info.address !== target.address || info.type !== target.type)) continue;
      this.servers.delete(id);
      this.lastTokenSamples.delete(id);
      this.#forget(`server:${id}`);
      this.#parts.books.ledger.endWhere((dimensions) => dimensions["tokenwatt.server.id"] === id);
    }
    this.#announceServers();
  }

  acceptGpus(poll: GpuPoll): void {
    const { books, clock, correlator, flight, gpuPollMs } = this.#parts;
    for (const sample of poll.samples) {
      flight?.keep({ kind: "gpu", sample }, clock.now());
      this.lastGpuSamples.set(sample.gpu, sample);
      correlator.acceptGpu(sample);
      const info = this.gpus.get(sample.gpu);
      if (info !== undefined) {
        this.#followLimit(info, sample);
        const sliced = this.#sliced.has(info.uuid);
        for (const gauge of gpuGauges(info, sample, gpuPollMs)) {
          // The memory of a sliced board is its instances': said twice, a sum would be twice as much.
          if (!sliced || !gauge.metric.startsWith("hw.gpu.memory.")) books.ledger.observe(gauge);
        }
        books.ledger.bookPostings(this.#deviceCounters.countSample(info, sample), sample.at);
      }
      this.#succeeded(`gpu:${sample.gpu}`, poll.received - poll.sent);
    }
    for (const gap of poll.gaps) this.acceptGap(gap);
    this.#succeeded("gpu", poll.received - poll.sent);
  }

  acceptTokens(info: ServerInfo, received: TokenSample): void {
    // What single requests used is booked and not remembered: neither as a last sample nor for a broken law.
    const { usage, ...sample } = received;
    const { books, correlator, increments, pending } = this.#parts;
    const id = sample.server;
    if (id !== info.id || sample.family !== info.family) this.#serverBehind(info, sample);
    if (sample.pids !== undefined || sample.gpus !== undefined) this.#hint(sample);
    this.#parts.flight?.keep(recordedTokens(sample), this.#parts.clock.now());
    this.#tellProblems(id, sample.errors);
    this.lastTokenSamples.set(id, lastSampleOf(sample));
    const accepted = withoutUsage(increments.countSample(sample), usage);
    if (usage !== undefined && usage.length > 0) {
      books.postUsage(id, usage, this.bookFacts(), this.#parts.clock.now());
    }
    for (const dispute of sample.disputes ?? []) this.record.dispute(id, dispute, this.#parts.clock.now());
    pending.holdBack(accepted.increments);
    if (accepted.unmetered) this.record.unmetered(id, this.#parts.clock.now());
    if (accepted.poll !== undefined) correlator.acceptTokens(id, accepted.poll, accepted.increments);
    const known = this.servers.get(id) ?? info;
    for (const gauge of serverGauges(known, sample)) books.ledger.observe(gauge);
    books.ledger.observe(serverInfoGauge(known, sample));
    if (sample.family === "gateway") books.ledger.observe(gatewayInfoGauge(known, sample));
    this.#dropped(`server:${id}`, accepted.dropped + sample.ignoredSamples);
    for (const note of sample.notes ?? []) this.#note(`server:${id}`, note);
    this.#succeeded(`server:${id}`, sample.received - sample.sent);
  }

  /** What the books must know of GPUs and servers to book an interval, as the last readings say; read when asked. */
  bookFacts(): BookFacts {
    const { gpus, lastTokenSamples, servers } = this;
    return {
      gpus,
      servers,
      soleModel: (server) => this.#parts.increments.soleModel(server),
      serves: (server, model) => this.#parts.increments.serves(server, model),
      powerLimit: (gpu, at) => this.#powerLimits.limitAt(gpu, at),
      waiting: (server) => requestsIn(lastTokenSamples.get(server), "waiting"),
      running: (server) => requestsIn(lastTokenSamples.get(server), "running"),
      cacheRatio: (server) => cacheRatioOf(lastTokenSamples.get(server)),
      whole: (server) => this.#isWhole(server),
    };
  }

  /**
   * False as soon as the configuration or the server itself names a GPU that is not on this host, a data-parallel rank of it
   * has none here, or a part of it is a prefill or decode worker: its rate is then not that of the GPUs seen here. A server
   * that names none counts as whole: its processes were placed here, and nothing points elsewhere.
   */
  #isWhole(server: string): boolean {
    const sample = this.lastTokenSamples.get(server);
    if (sample?.readings.some(({ role }) => role !== "combined") === true) return false;
    const named = [...(this.servers.get(server)?.gpus ?? []), ...(sample?.gpus ?? [])];
    if (this.#parts.correlator.hasRanksElsewhere(server)) return false;
    return named.every((gpu) => this.gpus.has(gpu) || this.#isBoardHere(gpu));
  }

  #isBoardHere(gpu: string): boolean {
    for (const { parent } of this.gpus.values()) if (parent === gpu) return true;
    return false;
  }

  /** Logs what is wrong with a server's page once, not at every poll; `/-/status` shows it as long as it lasts. */
  #tellProblems(server: string, errors: readonly string[]): void {
    if (errors.length === 0) return;
    const known = new Set(this.lastTokenSamples.get(server)?.errors.map(withoutNumbers));
    for (const error of errors) {
      if (!known.has(withoutNumbers(error)))
        this.#parts.log.warn("problem on a metric page", { source: `server:${server}`, cause: error });
    }
  }

  /** `tokenwatt.gpu.info` of every GPU, observed again so that it does not go stale. */
  observeInventory(): void {
    const { books, clock, inventoryMs } = this.#parts;
    // What is only expected may have been taken out of the host.
    if (!this.#enumerated) return;
    for (const info of this.gpus.values()) books.ledger.observe(gpuInfoGauge(info, clock.now(), inventoryMs));
  }

  /** A source, or all of a backend's GPUs, could not be read. */
  acceptFailure(source: string, error: unknown): void {
    const { clock, increments, life, log } = this.#parts;
    increments.interrupt(source.replace(/^server:/, ""));
    const reason = error instanceof Error ? error.message : String(error);
    this.#toCorrelator({ source, at: clock.now(), reason });
    this.#parts.books.ledger.bookPostings(
      this.#gapTimes.noteFailure(source, clock.now(), reason),
      clock.now(),
    );
    if (source === "gpu") for (const info of this.gpus.values()) this.#showFailed(info, clock.now());
    const hint = error instanceof SourceError && error.hint !== undefined ? { hint: error.hint } : {};
    if (this.#failing(source, clock.now(), reason)) {
      log.warn("source cannot be read", { source, cause: reason, ...hint });
    }
    if (error instanceof SourceError && error.kind === "restart") life.needRestart(error);
    if (!(error instanceof SourceError)) {
      log.error("source failed unexpectedly", { source, cause: reason, stack: (error as Error).stack });
    }
  }

  /** A source says itself that it could not read something. */
  acceptGap(gap: Gap): void {
    const { books, clock, increments } = this.#parts;
    increments.interrupt(gap.source.replace(/^server:/, ""));
    this.#toCorrelator(gap);
    books.ledger.bookPostings(this.#gapTimes.noteFailure(gap.source, gap.at, gap.reason), clock.now());
    const info = this.gpus.get(gap.source.replace(/^gpu:/, ""));
    if (info !== undefined) this.#showFailed(info, gap.at);
    if (this.#failing(gap.source, gap.at, gap.reason)) {
      const hint = gap.hint === undefined ? {} : { hint: gap.hint };
      this.#parts.log.warn("source cannot be read", { source: gap.source, cause: gap.reason, ...hint });
    }
  }

  /** An operator changed a board's power limit: on record, and energy is judged by the new one. */
  #followLimit(info: GpuInfo, { at, gpu, powerLimitWatts: after }: GpuSample): void {
    const before = info.powerLimitWatts;
    if (after === undefined || (before !== undefined && Math.abs(after - before) < LIMIT_STEP_WATTS)) return;
    const { books, clock, correlator, log } = this.#parts;
    if (before !== undefined) {
      log.info("GPU power limit changed", { source: `gpu:${gpu}`, beforeWatts: before, afterWatts: after });
      books.noteAudit("gpu", at, { gpu, why: "power limit", beforeWatts: before, afterWatts: after });
    }
    this.#powerLimits.noteLimit(gpu, after, at);
    this.gpus.set(gpu, { ...info, powerLimitWatts: after });
    correlator.setGpus([...this.gpus.values()], clock.now());
  }

  #showFailed(info: GpuInfo, at: Nanos): void {
    const { books, gpuPollMs } = this.#parts;
    for (const gauge of statusGauges(info, "failed", at, gpuPollMs)) books.ledger.observe(gauge);
  }

  /** True when this is news. */
  #failing(source: string, at: Nanos, reason: string): boolean {
    const news = this.health.bookFailure(source, at, reason);
    this.record.failing(source, this.health.get(source)?.failingSince ?? at, at, reason);
    return news;
  }

  #forget(source: string): void {
    this.health.forget(source);
    this.record.forget(source);
  }

  #toCorrelator(gap: Gap): void {
    this.#parts.flight?.keep({ kind: "gap", gap }, this.#parts.clock.now());
    this.#parts.correlator.acceptGap(gap);
  }

  #succeeded(source: string, tookNanos: Nanos): void {
    const { books, clock, log } = this.#parts;
    const since = this.health.get(source)?.failingSince;
    if (since !== undefined) this.record.recovered(source, since, clock.now());
    books.ledger.bookPostings(this.#gapTimes.succeeded(source, clock.now()), clock.now());
    if (this.health.bookRead(source, clock.now(), tookNanos)) log.info("source read again", { source });
  }

  /** A target with several servers: each takes the target's place under its own name and as what it says it is. */
  #serverBehind(target: ServerInfo, { family, server: id }: TokenSample): void {
    if (this.servers.get(id)?.family === family) return;
    this.servers.delete(target.id);
    this.servers.set(id, { ...target, id, family });
    this.#announceServers();
  }

  #hint(sample: TokenSample): void {
    this.#parts.correlator.setServerHints(sample.server, {
      ...(sample.gpus === undefined ? {} : { gpus: sample.gpus }),
      ...(sample.pids === undefined ? {} : { pids: sample.pids }),
    });
  }

  #announceServers(): void {
    this.#parts.correlator.setServers([...this.servers.values()], this.#parts.clock.now());
  }

  /** Counters that were held back or left out: counted, and logged when it is news. */
  #note(source: string, { amount, hint, kind, text }: SourceNote): void {
    const { clock, log } = this.#parts;
    // What is gone was counted, and stays: nothing of it is dropped.
    if (kind !== "gone" && kind !== "several") this.#dropped(source, amount, kind);
    if (!this.health.noted(source, { kind, amount, text, at: clock.now(), hint })) return;
    log.warn("counters do not go on", { source, cause: text, kind, ...(hint === undefined ? {} : { hint }) });
  }

  #dropped(source: string, amount: number, reason = "invalid"): void {
    if (amount === 0) return;
    const dimensions = { "tokenwatt.source": source, "tokenwatt.reason": reason };
    this.#parts.books.ledger.bookPostings(
      [{ metric: "tokenwatt.dropped", dimensions, amount }],
      this.#parts.clock.now(),
    );
  }
}

/** Requests a server has queued, or running; undefined when it cannot say. */
function requestsIn(sample: TokenSample | undefined, where: "waiting" | "running"): number | undefined {
  const said = sample?.readings.flatMap((reading) => reading[where] ?? []) ?? [];
  return said.length === 0 ? undefined : said.reduce((sum, value) => sum + value, 0);
}

/** The fullest KV cache of a server's readings. */
function cacheRatioOf(sample: TokenSample | undefined): number | undefined {
  const said = sample?.readings.flatMap(({ kvCacheUtilization }) => kvCacheUtilization ?? []) ?? [];
  return said.length === 0 ? undefined : Math.max(...said);
}

/** A problem's text as the same problem will have it at the next poll. */
function withoutNumbers(problem: string): string {
  return problem.replaceAll(/\d+/g, "#");
}
