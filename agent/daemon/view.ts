// What a person who looks at this agent is shown (export/page/view.ts), made from what it knows now and only when asked.
// Rates are of the last minute of settled intervals; the totals of tenants are of the committed snapshot.
import { hostname } from "node:os";
import type { Correlator } from "../correlate/correlator.ts";
import type {
  View,
  ViewCapacity,
  ViewFigures,
  ViewGpu,
  ViewGpuHistory,
  ViewHistory,
  ViewHold,
  ViewQuota,
  ViewServer,
} from "../export/page/view.ts";
import { stateLetters } from "../export/page/view.ts";
import { kpis } from "../meter/figures/kpis.ts";
import type { Recent, RecentLink, RecentSums } from "../meter/figures/recent.ts";
import { WHOLE_HOST } from "../meter/figures/recent.ts";
import type { CapacityRate } from "../meter/money/capacity-rate.ts";
import { capacitySources } from "../meter/money/capacity-rate.ts";
import type { GpuInfo, GpuState, TokenReading } from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import { stateOrder } from "../platform/state-colours.ts";
import { programVersion } from "../platform/version.ts";
import { adviceOf } from "./advice.ts";
import type { Exports } from "./export-beat.ts";
import type { Pipeline } from "./pipeline.ts";
import type { BackendTried } from "./sources.ts";
import type { TenantWatch } from "./tenant-watch.ts";
import { uncertainOf } from "./uncertain-words.ts";

/** Fewer readings of a server say nothing of its rate. */
const READS_LEAST = 2;

/** What a view is made from. */
export interface ViewParts {
  readonly clock: Clock;
  readonly pipeline: Pipeline;
  readonly exports: Pick<Exports, "deliveries" | "status" | "unkept">;
  readonly correlator: Pick<Correlator, "status">;
  readonly tried: readonly BackendTried[];
  readonly tenants: TenantWatch;
  /** What a server's GPUs can hold, where that is known. */
  readonly capacityOf: (server: string) => CapacityRate | undefined;
  /** What `/-/policy` shows to whoever may see what /metrics shows; undefined without a policy. */
  readonly policy: Readonly<Record<string, unknown>> | undefined;
}

/** What changes with every beat. */
export function viewOf(parts: ViewParts): View {
  const { clock, exports, pipeline, tenants } = parts;
  const { intake, recent } = pipeline;
  const status = exports.status();
  const links = recent.links();
  const gpus = [...intake.gpus.values()].map((info) => gpuView(parts, info, links));
  const watts = gpus.flatMap(({ power_watts }) => power_watts ?? []);
  const shown = tenants.take(Number(clock.unixNanos(clock.now()) / 1_000_000n));
  return {
    type: "view",
    host: hostname(),
    version: programVersion(),
    unix_ms: Number(clock.unixNanos(clock.now()) / 1_000_000n),
    uptime_seconds: Math.round(clock.now() / 1e9),
    window_seconds: rounded(recent.sums("minute", WHOLE_HOST)?.elapsed ?? 0, 1),
    currency: recent.currency ?? null,
    whole: {
      ...figures(recent, recent.sums("minute", WHOLE_HOST), isCounted(parts)),
      ...([...intake.gpus.keys()].some((gpu) => isWithoutEnergy(recent.sums("minute", gpu)))
        ? { tokens_per_joule: null }
        : {}),
      power_watts: watts.length === 0 ? null : rounded(sum(watts), 1),
    },
    capacity: capacityOf(parts),
    gpus,
    servers: [...intake.servers.keys()].map((id) => serverView(parts, id, links)),
    tenants: shown.tenants,
    tenants_left_out: shown.leftOut,
    quotas: quotasOf(parts.policy),
    destinations: exports.deliveries.map((one) => ({
      name: one.destination,
      state: one.state,
      sent_points: one.sentPoints,
      unsent_seconds: rounded(one.unsentSeconds, 1),
      last_error: one.lastError ?? null,
    })),
    series: Number(status["series"]),
    durable: status["durable"] === true,
    advice: adviceOf(parts),
    uncertain: uncertainOf(links, intake.gpus),
  };
}

/** The hour; `cell` is its newest, which is complete. */
export function historyOf({ clock, pipeline }: Pick<ViewParts, "clock" | "pipeline">): ViewHistory {
  const { intake, recent } = pipeline;
  const last = recent.hour.cell - 1;
  const cells = Array.from({ length: recent.hour.cells - 1 }, (_, at) => last - recent.hour.cells + 2 + at);
  const host = cells.map((cell) => recent.sums("hour", WHOLE_HOST, cell));
  const gpuCells = ({ index, migProfile, name, uuid }: GpuInfo): ViewGpuHistory => ({
    uuid,
    index,
    name: migProfile ?? name,
    cells: cells.map((cell) => percents(recent.sums("hour", uuid, cell))),
  });
  const joules = host.map((one) => one?.joules);
  return {
    type: "history",
    cell_seconds: recent.hour.cellNanos / 1e9,
    until_unix_ms: Number(clock.unixNanos((last + 1) * recent.hour.cellNanos) / 1_000_000n),
    gpus: [...intake.gpus.values()].map(gpuCells),
    tokens_per_second: host.map((one) => rate(one, tokens)),
    tokens_per_joule: host.map((one) => known(figures(recent, one, true).tokens_per_joule, 4)),
    // No GPU draws nothing: without a joule it is not known.
    watts: host.map((one) => rate(one, ({ joules: by }) => sum(Object.values(by))) || null),
    joules: Object.fromEntries(
      [...stateOrder, "unattributed" as const].map((state) => [
        state,
        rounded(sum(joules.map((by) => by?.[state] ?? 0)), 0),
      ]),
    ) as ViewHistory["joules"],
  };
}

const QUOTAS_SHOWN_MAX = 50;

/** Quotas, the fullest first. */
function quotasOf(policy: ViewParts["policy"]): readonly ViewQuota[] | null {
  if (policy === undefined) return null;
  const all = policy["quotas"] as readonly (Omit<ViewQuota, "until"> & {
    readonly window: { readonly to: string };
  })[];
  const fill = ({ limit, used }: Pick<ViewQuota, "limit" | "used">): number => (used ?? 0) / (limit ?? 1);
  return all
    .map(({ count, currency, key, limit, name, per, state, used, whole_window, window }) => ({
      ...{ name, key, count, currency, per, used, whole_window, limit, state, until: window.to },
    }))
    .sort((a, b) => fill(b) - fill(a))
    .slice(0, QUOTAS_SHOWN_MAX);
}

function gpuView(parts: ViewParts, info: GpuInfo, links: readonly RecentLink[]): ViewGpu {
  const { intake, recent } = parts.pipeline;
  const sample = intake.lastGpuSamples.get(info.uuid);
  const sums = recent.sums("minute", info.uuid);
  const held = links.filter(({ gpu }) => gpu === info.uuid);
  const counted = held.some(
    ({ name, what }) => what === "server" && reads(parts, name[0] ?? "") >= READS_LEAST,
  );
  const minute = minuteOf(recent, info.uuid);
  const health = intake.health.get(`gpu:${info.uuid}`);
  return {
    uuid: info.uuid,
    index: info.index,
    name: info.name,
    parent: info.parent ?? null,
    mig_profile: info.migProfile ?? null,
    state: minute.last ?? null,
    minute: minute.letters,
    utilization: known(sample?.utilizationRatio ?? sample?.utilizationRing?.values.at(-1), 3),
    power_watts: known(sample?.powerWatts ?? sample?.powerInstantWatts, 1),
    power_limit_watts: known(info.powerLimitWatts, 1),
    memory_used_bytes: sample?.memoryUsedBytes ?? null,
    memory_total_bytes: info.memoryTotalBytes ?? null,
    temperature_celsius: sample?.temperatureCelsius ?? null,
    ...figures(recent, sums, counted),
    // Money is kept by product and server, not by GPU.
    cost_per_hour: null,
    held_by: holds(held, (sums?.seconds.other ?? 0) > 0),
    problem: info.unreadable ?? (health?.ok === false ? (health.reason ?? "it cannot be read") : null),
  };
}

function serverView(parts: ViewParts, id: string, links: readonly RecentLink[]): ViewServer {
  const { intake, recent } = parts.pipeline;
  const info = intake.servers.get(id);
  const sample = intake.lastTokenSamples.get(id);
  const readings = sample?.readings ?? [];
  const sums = recent.sums("minute", id);
  const held = links.filter(({ name, what }) => what === "server" && name[0] === id);
  const onGpus = sum(held.map(({ ofSeconds }) => ofSeconds));
  const made = sums === undefined ? 0 : tokens(sums);
  const joules = sums === undefined ? 0 : sum(Object.values(sums.joules));
  const counted = reads(parts, id) >= READS_LEAST;
  return {
    id,
    type: info?.type ?? "",
    family: sample?.family ?? info?.family ?? "engine",
    address: info?.address ?? "",
    version: sample?.version ?? null,
    models: [...new Set(readings.flatMap(({ model }) => model ?? []))].slice(0, 8),
    gpus: recent.homesOf(id),
    share: onGpus > 0 ? rounded(sum(held.map(({ seconds }) => seconds)) / onGpus, 3) : null,
    running: total(readings, ({ running }) => running),
    waiting: total(readings, ({ waiting }) => waiting),
    kv_cache_utilization: known(
      readings.findLast((one) => one.kvCacheUtilization !== undefined)?.kvCacheUtilization,
      3,
    ),
    ok: intake.health.get(`server:${id}`)?.ok ?? null,
    ...figures(recent, sums, counted),
    tokens_per_joule: counted && joules > 0 ? rounded(made / joules, 3) : null,
    tokens_per_gpu_hour:
      counted && sums !== undefined && sums.held > 0 ? Math.round((3600 * made) / sums.held) : null,
  };
}

/** What was used of the capacity of engines that held a GPU in the last minute: of those whose capacity is known. */
function capacityOf(parts: ViewParts): ViewCapacity | null {
  const { clock, pipeline } = parts;
  const now = clock.unixNanos(clock.now());
  let [made, could, unsure, servers, known] = [0, 0, 0, 0, 0];
  let isLimitSeen = true;
  let source = -1;
  let age: number | null = null;
  for (const [id, { family }] of pipeline.intake.servers) {
    const sums = pipeline.recent.sums("minute", id);
    if (family !== "engine" || sums === undefined || !(sums.held > 0)) continue;
    const rate = parts.capacityOf(id);
    servers++;
    if (rate === undefined || reads(parts, id) < READS_LEAST) continue;
    known++;
    made += tokens(sums);
    const most = (rate.tokensPerGpuHour * sums.held) / 3600;
    could += most;
    unsure += ((rate.uncertainPerGpuHour ?? 0) * sums.held) / 3600;
    isLimitSeen &&= rate.reason !== "limit_not_seen";
    source = Math.max(source, capacitySources.indexOf(rate.source));
    if (rate.at !== undefined) age = Math.max(age ?? 0, Number(now - rate.at) / 1e9);
  }
  if (!(could > 0)) return null;
  return {
    servers_known: known,
    servers,
    utilization: rounded(made / could, 4),
    utilization_min: unsure > 0 ? rounded(made / (could + unsure), 4) : null,
    utilization_max: unsure > 0 ? rounded(made / (could - unsure), 4) : null,
    limit_seen: isLimitSeen,
    source: capacitySources[source] ?? "",
    age_seconds: age === null ? null : Math.round(age),
  };
}

/** Whether any server was read often enough for a rate. */
function isCounted(parts: ViewParts): boolean {
  return [...parts.pipeline.intake.servers.keys()].some((id) => reads(parts, id) >= READS_LEAST);
}

function reads({ pipeline }: ViewParts, server: string): number {
  return pipeline.intake.health.get(`server:${server}`)?.reads ?? 0;
}

function figures({ currency }: Recent, sums: RecentSums | undefined, counted: boolean): ViewFigures {
  const zeros = Object.fromEntries(stateOrder.map((state) => [state, 0])) as Record<GpuState, number>;
  const all = kpis({
    gpuNanos: scaled(sums?.seconds ?? zeros, 1e9),
    gpuMillijoules: scaled(sums?.joules ?? zeros, 1e3),
    ...(counted && sums !== undefined ? { inputTokens: sums.input, outputTokens: sums.output } : {}),
    unknownNanos: (sums?.unknown ?? 0) * 1e9,
  });
  const cost =
    currency === undefined || currency === null ? undefined : rate(sums, (one) => one.cost * 3600, 4);
  return {
    state_seconds: Object.fromEntries(
      stateOrder.map((state) => [state, rounded(sums?.seconds[state] ?? 0, 2)]),
    ) as ViewFigures["state_seconds"],
    tokens_per_second: counted ? rate(sums, tokens) : null,
    output_tokens_per_second: counted ? rate(sums, ({ output }) => output) : null,
    tokens_per_joule: known(all.tokensPerJoule, 3),
    tokens_per_gpu_hour: known(all.tokensPerGpuHour, 0),
    token_active_utilization: known(all.tokenActiveUtilization, 4),
    cost_per_hour: cost ?? null,
  };
}

/** A GPU that was held and has no joule: those of the others are not the joules of all tokens. */
function isWithoutEnergy(sums: RecentSums | undefined): boolean {
  if (sums === undefined) return false;
  const { parked, stalled, token_active } = sums.seconds;
  return parked + stalled + token_active > 0 && !(sum(Object.values(sums.joules)) > 0);
}

/** Servers; and holders by name where somebody else has a part of it. */
function holds(links: readonly RecentLink[], isOther: boolean): readonly ViewHold[] {
  const others = isOther || links.some(({ name, what }) => what === "server" && name[0] === "unmetered");
  return links.flatMap(({ joules, name, ofSeconds, seconds: held, what }): ViewHold[] => {
    const shown = what === "server" ? name[0] !== "unmetered" : what === "holder" && others;
    if (!shown || held === 0) return [];
    const [kind, of] = what === "server" ? ["server", name[0]] : [name[0], name[1]];
    const share = ofSeconds > 0 ? rounded(Math.min(1, held / ofSeconds), 3) : 0;
    return [{ kind: kind ?? "", name: of ?? "", share, watts: rounded(joules / held, 1) }];
  });
}

/** A letter a second, the state that most of it was in. */
function minuteOf(
  recent: Recent,
  gpu: string,
): { readonly letters: string; readonly last: GpuState | undefined } {
  const { cell, cells } = recent.minute;
  const states = Array.from({ length: cells }, (_, at) =>
    most(recent.sums("minute", gpu, cell - cells + 1 + at)),
  );
  return {
    letters: states.map((state) => (state === undefined ? " " : stateLetters[state])).join(""),
    last: states.findLast((state) => state !== undefined),
  };
}

function most(sums: RecentSums | undefined): GpuState | undefined {
  if (sums === undefined) return undefined;
  const state = stateOrder.reduce((best, one) => (sums.seconds[one] > sums.seconds[best] ? one : best));
  return sums.seconds[state] > 0 ? state : undefined;
}

function percents(sums: RecentSums | undefined): readonly number[] {
  const whole = sums === undefined ? 0 : sum(Object.values(sums.seconds));
  if (sums === undefined || whole === 0) return [];
  return stateOrder.map((state) => Math.round((100 * sums.seconds[state]) / whole));
}

function tokens({ input, output }: RecentSums): number {
  return input + output;
}

function rate(sums: RecentSums | undefined, of: (sums: RecentSums) => number, digits = 1): number | null {
  return sums === undefined || sums.elapsed === 0 ? null : rounded(of(sums) / sums.elapsed, digits);
}

function total(
  readings: readonly TokenReading[],
  of: (one: TokenReading) => number | undefined,
): number | null {
  const said = readings.flatMap((one) => of(one) ?? []);
  return said.length === 0 ? null : sum(said);
}

function scaled<T extends Readonly<Record<GpuState, number>>>(of: T, by: number): Record<GpuState, number> {
  return Object.fromEntries(stateOrder.map((state) => [state, of[state] * by])) as Record<GpuState, number>;
}

function known(value: number | undefined | null, digits: number): number | null {
  return value === undefined || value === null ? null : rounded(value, digits);
}

function rounded(value: number, digits: number): number {
  const scale = 10 ** digits;
  return Math.round(value * scale) / scale;
}

function sum(values: readonly number[]): number {
  return values.reduce((all, one) => all + one, 0);
}
