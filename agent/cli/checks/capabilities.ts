// gpu.capabilities: what each GPU cannot say, why, and what the agent does without it; readings that contradict
// each other. Reasons are the ones the backend remembers in GpuInfo.unsupported.
import type { GpuInfo, GpuSample } from "../../model.ts";
import type { GpuPoll } from "../../source.ts";
import type { Finding } from "./check.ts";

const ID = "gpu.capabilities";
/** A GPU above this share of its limit works; idle with a context it draws a fifth. */
const WORKING_SHARE = 0.5;

/** What is done without a reading. Readings not listed cost nothing but their own series. */
const CONSEQUENCES: Readonly<Record<string, string>> = {
  energy: "energy is integrated from power, method integrated",
  power_average: "power is what nvmlDeviceGetPowerUsage says, instantaneous on GA100 and older",
  utilization_ring: "activity is known once a poll instead of five times a second",
  power_ring: "energy inside a second is spread evenly",
  utilization: "activity comes from GPM, or only from token counters",
  processes: "residents are unknown: name the GPUs of each server in its configuration",
  process_share: "energy of a shared GPU is split by tokens or equally, method token_share or equal",
  gpm: "SM, tensor and memory activity are not known",
  events: "XID events are not counted",
  throttle_thermal_and_brake: "thermal and brake throttling are not counted apart",
};
/** What can be done, by the reason a reading is missing. */
const REMEDIES: Readonly<Record<string, (reason: string) => string>> = {
  persistence_mode: () => "run nvidia-persistenced, or `nvidia-smi -pm 1`",
  processes: (reason) => {
    if (/FUNCTION_NOT_FOUND/.test(reason))
      return "this driver has no call for process lists: update it, or name gpus in each server's configuration";
    if (/no known driver|WROTE_PAST_BUFFER/.test(reason))
      return "report the driver's version; until then name gpus in each server's configuration";
    if (/NO_PERMISSION/.test(reason))
      return "give the agent the host's PID namespace (hostPID: true), or name gpus in each server's configuration";
    return "name gpus in each server's configuration: this GPU has no process list";
  },
  mig_weight: () =>
    "read this host through nvml, or update DCGM and dcgm-exporter until the page names GPU_I_PROFILE of each instance",
};

/** One finding per GPU: ok, or a warning where something that matters is missing or contradictory. */
export function judgeCapabilities(
  gpus: readonly GpuInfo[],
  { gaps = [], samples }: Pick<GpuPoll, "samples"> & Partial<Pick<GpuPoll, "gaps">>,
): readonly Finding[] {
  return gpus.flatMap((info) => {
    // gpu.reading says what is wrong with a GPU that was not read; nothing can be said about what it can do.
    if (gaps.some(({ source }) => source === `gpu:${info.uuid}`)) return [];
    const sample = samples.find(({ gpu }) => gpu === info.uuid);
    return sample === undefined ? [notRead(info)] : [judgeGpu(info, sample)];
  });
}

function notRead({ unsupported = {}, uuid }: GpuInfo): Finding {
  const about = { id: ID, subject: uuid, facts: { unsupported } };
  const remedy = "ask again: a tool or page that is slow to answer shows nothing at first";
  return { ...about, verdict: "warn", seen: "no reading of it came while doctor looked", remedy };
}

function judgeGpu(info: GpuInfo, sample: GpuSample): Finding {
  const unsupported = info.unsupported ?? {};
  // A MIG instance has no power, clock or event of its own: that is no loss.
  const missing = info.parent === undefined ? Object.keys(unsupported) : [];
  const doubts = contradictions(info, sample);
  const known = missing
    .filter((name) => name in CONSEQUENCES)
    .map((name) => `${name}: ${CONSEQUENCES[name]}`);
  const remedies = Object.entries(REMEDIES).filter(([name]) => missing.includes(name));
  const facts = { unsupported };
  const about = { id: ID, subject: info.uuid, facts };
  if (doubts.length > 0) {
    return { ...about, verdict: "warn", seen: doubts.join("; "), remedy: DOUBT };
  }
  if (remedies.length > 0) {
    const seen = remedies.map(([name]) => `${name}: ${unsupported[name]}`).join("; ");
    const remedy = remedies.map(([name, remedyFor]) => remedyFor(unsupported[name] ?? "")).join("; ");
    return { ...about, verdict: "warn", seen, remedy };
  }
  const seen = known.length === 0 ? "everything the meter needs is read" : known.join("; ");
  return { ...about, verdict: "ok", seen };
}

const DOUBT =
  "compare with `nvidia-smi`; processes of other PID namespaces are not visible without hostPID: true, and a driver " +
  "that shows 0 % under load needs a reset";

/** Readings of one moment that cannot all be true. */
function contradictions(info: GpuInfo, sample: GpuSample): readonly string[] {
  const busy = sample.utilizationRatio;
  const limit = info.powerLimitWatts;
  const watts = sample.powerWatts ?? sample.powerInstantWatts;
  const working = limit !== undefined && watts !== undefined && watts > WORKING_SHARE * limit;
  const doubts: string[] = [];
  if (working && busy === 0) {
    doubts.push(`draws ${Math.round(watts)} W of ${Math.round(limit)} W while its utilisation reads 0`);
  }
  if ((busy ?? 0) > 0 && sample.processes?.length === 0) {
    doubts.push("is busy, but no process on it is visible");
  }
  return doubts;
}
