// What is wrong with a running agent and what to do about it, in doctor's words and under doctor's ids, from what it knows
// of itself: nothing is asked, opened or read for it. What only a look from outside can tell is left to `tokenwatt doctor`.
import type { Correlator } from "../correlate/correlator.ts";
import type { ViewAdvice } from "../export/page/view.ts";
import type { ServerInfo } from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import type { Exports } from "./export-beat.ts";
import type { Pipeline } from "./pipeline.ts";
import type { BackendTried } from "./sources.ts";

/** What the advice is taken from. */
export interface AdviceParts {
  readonly clock: Clock;
  readonly pipeline: Pipeline;
  readonly exports: Pick<Exports, "deliveries" | "unkept">;
  readonly correlator: Pick<Correlator, "status">;
  readonly tried: readonly BackendTried[];
}

const ADVICE_MAX = 40;
/** Counters that went wrong this long ago are no news any more. */
const NOTED_NANOS = 3600e9;
/** A destination that is behind by less is on its way. */
const BEHIND_SECONDS = 60;

/** What is wrong, failures first. */
export function adviceOf(parts: AdviceParts): readonly ViewAdvice[] {
  const all = [...gpuAdvice(parts), ...serverAdvice(parts), ...energyAdvice(parts), ...exportAdvice(parts)];
  return all.sort((a, b) => Number(b.verdict === "fail") - Number(a.verdict === "fail")).slice(0, ADVICE_MAX);
}

function gpuAdvice({ pipeline, tried }: AdviceParts): ViewAdvice[] {
  const { gpus, health } = pipeline.intake;
  if (pipeline.gpu === undefined) {
    const reasons = tried.map(({ backend, reason }) => `${backend}: ${reason}`).join("; ");
    const seen = `no GPU backend can work here${reasons === "" ? "" : ` (${reasons})`}`;
    return [
      warn("gpu.backend", undefined, seen, "`tokenwatt doctor --only gpu` says what is missing", "fail"),
    ];
  }
  const whole = health.get("gpu");
  if (whole?.ok === false)
    return [warn("gpu.reading", undefined, whole.reason ?? "the GPUs cannot be read", DOCTOR_GPU, "fail")];
  return [...gpus.values()].flatMap(({ index, unreadable, uuid }) => {
    const read = health.get(`gpu:${uuid}`);
    const why = unreadable ?? (read?.ok === false ? (read.reason ?? "it cannot be read") : undefined);
    return why === undefined ? [] : [warn("gpu.reading", `GPU ${index}`, why, DOCTOR_GPU, "fail")];
  });
}

function serverAdvice({ clock, correlator, pipeline }: AdviceParts): ViewAdvice[] {
  const { gpus, health, lastTokenSamples, servers } = pipeline.intake;
  if (servers.size === 0)
    return gpus.size === 0 ? [] : [warn("server.reachable", undefined, NO_SERVER, ADD_SERVER)];
  const { placements, ranks } = correlator.status();
  const placed = new Set(placements.map(({ server }) => server));
  return [...servers.values()].flatMap((info) => {
    const { address, id } = info;
    const probe = `\`tokenwatt probe ${address}\` shows what it answers`;
    const read = health.get(`server:${id}`);
    if (read?.ok === false)
      return [warn("server.reachable", id, read.reason ?? "it cannot be read", probe, "fail")];
    const problems = lastTokenSamples.get(id)?.errors ?? [];
    const notes = health
      .notes(`server:${id}`)
      .filter(({ at, kind }) => kind !== "gone" && clock.now() - at < NOTED_NANOS);
    return [
      ...problems.slice(0, 1).map((text) => warn("server.counters", id, text, probe)),
      ...notes.map(({ amount, hint, text }) =>
        warn("server.counters", id, `${text} (${amount} times)`, hint ?? probe),
      ),
      ...(isHomeless(info, placed, pipeline) ? [warn("discovery.placement", id, HOMELESS, NO_PLACE)] : []),
      ...rankAdvice(id, ranks),
    ];
  });
}

/** Ranks whose GPUs nothing here says, and those that are not where their order says. */
function rankAdvice(id: string, ranks: ReturnType<Correlator["status"]>["ranks"]): ViewAdvice[] {
  const own = ranks.filter(({ server }) => server === id);
  const lost = own.filter(({ place }) => place === "unknown");
  const moved = own.filter(({ isOutOfOrder }) => isOutOfOrder);
  if (lost.length === 0 && moved.length > 0) {
    return [
      warn(
        "discovery.placement",
        id,
        `its data-parallel ranks ${namesOf(moved)} are on other GPUs than their order says: learned from what both do`,
        orderRemedy(own),
      ),
    ];
  }
  if (lost.length === 0) return [];
  const names = namesOf(lost);
  return [
    warn(
      "discovery.placement",
      id,
      `the GPUs of its data-parallel ranks ${names} are not known: each GPU counts with what all ranks do`,
      "name its GPUs in the order of ranks, those of other hosts too (`gpus`), or let the agent see the host's /proc",
    ),
  ];
}

/** The GPUs to configure; where ranks are on other hosts, whose GPUs are not known here, where those of this host are. */
function orderRemedy(ranks: ReturnType<Correlator["status"]>["ranks"]): string {
  const inOrder = ranks.toSorted((one, other) => Number(one.rank) - Number(other.rank));
  const start = "name its GPUs in the order of ranks";
  const here = inOrder.filter(({ gpus }) => gpus.length > 0);
  if (here.length < inOrder.length) {
    const places = here.map(({ gpus, rank }) => `${rank} on ${gpus.join(", ")}`).join("; ");
    return `${start}, those of other hosts too (\`gpus\`), so that it is known from the start: rank ${places}`;
  }
  const order = inOrder.flatMap(({ gpus }) => gpus).join(", ");
  return `${start}, so that it is known from the start (\`gpus\`: [${order}])`;
}

function namesOf(ranks: readonly { readonly rank: string }[]): string {
  return ranks.map(({ rank }) => rank).join(", ");
}

/** It was read, counts on GPUs of some host, and no GPU process here is known as its own. */
function isHomeless(
  info: ServerInfo,
  placed: ReadonlySet<string | undefined>,
  { intake, recent }: Pipeline,
): boolean {
  const sample = intake.lastTokenSamples.get(info.id);
  if (sample?.family !== "engine" || placed.has(info.id)) return false;
  const named = [...(info.gpus ?? []), ...(sample.gpus ?? [])];
  const here = [...intake.gpus.values()].flatMap(({ parent, uuid }) => [uuid, parent ?? uuid]);
  // Where no GPU can be read, that is what is wrong.
  const isKnown = here.length === 0 ? named.length > 0 : named.some((gpu) => here.includes(gpu));
  return !isKnown && recent.homesOf(info.id).length === 0;
}

function energyAdvice({ correlator, pipeline }: AdviceParts): ViewAdvice[] {
  return Object.entries(correlator.status().energy).flatMap(
    ([uuid, { counterDoubt, counterRatio, counterSuspect }]) => {
      if (counterSuspect !== true) return [];
      const moved =
        counterRatio === undefined ? "" : `, ${counterRatio.toFixed(2)} times what power integrates to`;
      const seen =
        counterDoubt === undefined
          ? `its energy counter and its power disagree in the last minute${moved}`
          : counterDoubt === "stands_still"
            ? "its energy counter is replaced by power: it stands still while the GPU draws power"
            : `its energy counter is replaced by power: it disagreed for 5 minutes${moved}`;
      const index = pipeline.intake.gpus.get(uuid)?.index;
      return [warn("gpu.energy", index === undefined ? uuid : `GPU ${index}`, seen, ENERGY)];
    },
  );
}

function exportAdvice({ exports }: AdviceParts): ViewAdvice[] {
  const kept =
    exports.unkept === undefined ? [] : [warn("state.writable", undefined, exports.unkept, STATE, "fail")];
  const behind = exports.deliveries.flatMap(({ destination, lastError, unsentSeconds }) => {
    if (unsentSeconds < BEHIND_SECONDS && lastError === undefined) return [];
    const waits = `${Math.round(unsentSeconds)} s of data wait in the spool`;
    return [
      warn(
        "otlp.accepts",
        destination,
        lastError === undefined ? waits : `${lastError}; ${waits}`,
        COLLECTOR,
      ),
    ];
  });
  return [...kept, ...behind];
}

function warn(
  id: string,
  subject: string | undefined,
  seen: string,
  remedy: string,
  verdict: ViewAdvice["verdict"] = "warn",
): ViewAdvice {
  return { id, verdict, subject: subject ?? null, seen, remedy };
}

const DOCTOR_GPU = "`tokenwatt doctor --only gpu` says what is missing; until then its time is unobserved";
const NO_SERVER =
  "no server is configured and none is found: GPU time is booked as other, not as token_active";
const ADD_SERVER = "name your inference servers under `servers` (`tokenwatt config init` shows how)";
const HOMELESS = "it answers, but which GPUs are its own is not known";
const NO_PLACE =
  "name its `gpus`, `pids`, `unit` or `cgroup` in its entry; a server whose GPUs are on another host is metered there";
const ENERGY = "look for a counter of the whole module (Grace Hopper) or a driver that needs an update";
const STATE = "`tokenwatt doctor --only state` says what the state folder needs";
const COLLECTOR =
  "is a Collector with an OTLP/gRPC receiver listening there? `tokenwatt doctor --only otlp` asks it";
