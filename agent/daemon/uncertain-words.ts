// What the agent is not sure of in the last minute, in words: every assumption that seconds or joules rest on
// (METERING.md 1.5), how much rests on it and what would make it better.
import type { ViewUncertain } from "../export/page/view.ts";
import type { RecentLink } from "../meter/figures/recent.ts";
import type { GpuInfo, UncertainReason } from "../model.ts";

const words: Readonly<Record<UncertainReason, string>> = {
  coarse_windows:
    "GPU readings are too far apart to show when work began and ended: read the GPU through NVML",
  cached_page: "the server's page is older than the poll: its counters stand for an earlier instant",
  unread_page: "the server was not read in this time: whether it worked is not known",
  busy_share: "requests shorter than a GPU reading: their time is the busy share of the reading",
  half_of_work: "a server and somebody else may both have worked: half of it is counted",
  shared_work:
    "several may have worked, other ranks among them: a server's part is its tokens over the pace it was seen at, or all of it",
  unexplained_work: "work with a request in flight and no sign of progress",
  floor_assumed: "the power of holding this GPU idle was not measured yet: 18 % of its limit is assumed",
  token_share: "energy is shared by tokens: the driver gives no share per process",
  equal_watts:
    "energy is shared by time: what a server or MIG instance draws was not seen, and it counts with the watts of the others",
  fitted_work:
    "energy is shared by what the work of each server or MIG instance was seen to cost, which is known only roughly",
  sampled_power:
    "energy is integrated from power that was read for a part of the time alone: read the energy counter through NVML, or power each second",
  equal_share: "energy is shared equally: the driver gives no share per process, and no tokens tell",
  partial_counters: "counters are read through a part of their series",
  assumed_ranks:
    "which GPU a data-parallel rank is on was assumed, and the two do not agree: name the GPUs in the order of ranks",
  estimated_counters:
    "tokens are estimated: integrated from a rate, or those of other hosts' ranks taken off by their progress, where the server does not count them so",
};

/** A reason in words; one of another version as it is called. */
export function uncertainWords(reason: string): string {
  return words[reason as UncertainReason] ?? reason;
}

/** The assumptions of the last minute, the weightiest first. */
export function uncertainOf(
  links: readonly RecentLink[],
  gpus: ReadonlyMap<string, GpuInfo>,
): readonly ViewUncertain[] {
  const unsure = links.filter(({ what }) => what === "uncertain");
  const groups = Map.groupBy(unsure, ({ name }) => JSON.stringify(name));
  return [...groups.values()]
    .map((group): ViewUncertain => {
      const [reason = "", server] = group[0]?.name ?? [];
      const seconds = group.reduce((sum, one) => sum + one.seconds, 0);
      const whole = group.reduce((sum, one) => sum + one.ofSeconds, 0);
      return {
        reason,
        says: uncertainWords(reason),
        seconds: Math.round(10 * seconds) / 10,
        share: whole > 0 ? Math.round(1000 * Math.min(1, seconds / whole)) / 1000 : 0,
        gpus: group.flatMap(({ gpu }) => gpus.get(gpu)?.index ?? []).sort((a, b) => a - b),
        server: server ?? null,
      };
    })
    .filter(({ seconds }) => seconds > 0)
    .sort((a, b) => b.seconds - a.seconds);
}
