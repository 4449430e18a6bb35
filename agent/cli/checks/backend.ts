// gpu.backend: which backends can work here and which one wins. gpu.reading: whether it really reads. gpu.energy: whether
// counter and power agree (energy.ts). gpu.capabilities: what each GPU cannot say (capabilities.ts).
// The reading goes through the same source as the daemon's; a driver that hangs shows as a failed check after 12 s.
import { configuredBackends } from "../../config/load.ts";
import type { GpuInfo, GpuSample } from "../../model.ts";
import type { Detection, GpuBackend, GpuPoll, GpuSource } from "../../source.ts";
import { readStatus } from "../common/daemon-process.ts";
import { judgeCapabilities } from "./capabilities.ts";
import type { Check, CheckContext, Finding } from "./check.ts";
import { reasonOf, within } from "./check.ts";
import { judgeEnergy, replacedCounters } from "./energy.ts";

const DETECT_MS = 5000;
const READ_MS = 12_000;
/** How long readings are waited for that come one by one. */
const EACH_MS = 5000;
/** The energy counter moves every 100 ms, and averages lag by a second: shorter says nothing. */
const ENERGY_MS = 3000;
const POLL_MS = 250;
const GAPS_MAX = 3;
const STATUS_MS = 1000;

/** Finds the GPU backend that works here and reads each GPU through it. */
export const backendCheck: Check = {
  ids: ["gpu.backend", "gpu.reading", "gpu.energy", "gpu.capabilities"],
  run: async (context) => {
    if (context.loaded === undefined) return [];
    const tried = await detectAll(context, context.loaded.config);
    const winner = tried.find(({ detection }) => detection.usable);
    const found = judgeBackends(tried, winner);
    if (winner === undefined) return [found];
    const status = await readStatus(context.loaded.config.export.prometheus, STATUS_MS);
    const [read, replaced] = [await judgeReading(context, winner), replacedCounters(status)];
    // What the daemon saw over minutes outweighs the few seconds of this look.
    const known = new Set(replaced.map(({ subject }) => subject));
    return [
      found,
      ...read.filter(({ id, subject }) => id !== "gpu.energy" || !known.has(subject)),
      ...replaced,
    ];
  },
};

interface Tried {
  readonly backend: GpuBackend;
  readonly section: unknown;
  readonly detection: Detection;
}

async function detectAll(
  context: CheckContext,
  config: NonNullable<CheckContext["loaded"]>["config"],
): Promise<Tried[]> {
  const detect = async (backend: GpuBackend, section: unknown): Promise<Detection> => {
    try {
      return await within(
        context,
        DETECT_MS,
        `looking for ${backend.name}`,
        backend.detect(section, context),
      );
    } catch (error) {
      return { usable: false, reason: reasonOf(error).seen };
    }
  };
  return Promise.all(
    configuredBackends(config).map(async ({ backend, section }) => ({
      backend,
      section,
      detection: await detect(backend, section),
    })),
  );
}

function judgeBackends(tried: readonly Tried[], winner: Tried | undefined): Finding {
  const reasons = tried.map(({ backend, detection }) => `${backend.name}: ${detection.reason}`);
  const facts = Object.fromEntries(tried.map(({ backend, detection }) => [backend.name, detection]));
  if (winner !== undefined) {
    const seen = `${winner.backend.name} wins: ${winner.detection.reason}`;
    return { id: "gpu.backend", verdict: "ok", seen, facts };
  }
  return {
    id: "gpu.backend",
    verdict: "fail",
    seen: `no GPU backend can work here (${reasons.join("; ")})`,
    remedy: remedyOf(tried),
    facts,
  };
}

/** The hint of the backend that came furthest: one whose tool or library is there before one that is not installed. */
function remedyOf(tried: readonly Tried[]): string {
  const furthest = tried.toSorted((a, b) => Number(isAbsent(a)) - Number(isAbsent(b)));
  return furthest.find(({ detection }) => detection.hint !== undefined)?.detection.hint ?? INSTALL;
}

/** Whether a backend lacks its own tool, library or service: that is no word on why the GPU cannot be read. */
function isAbsent({ detection: { hint, reason } }: Tried): boolean {
  return (
    hint === undefined ||
    /not found|\(EACCES\)|ENOENT|EACCES: |Cannot load|does not exist|nothing listens|refused|no recording/i.test(
      reason,
    )
  );
}

const INSTALL =
  "on a GPU host install the driver's library libnvidia-ml.so.1 or put nvidia-smi on PATH; in a container use the " +
  "NVIDIA runtime with NVIDIA_DRIVER_CAPABILITIES=utility. Without a GPU tokens are still counted, GPU time is not";

async function judgeReading(context: CheckContext, { backend, section }: Tried): Promise<readonly Finding[]> {
  const id = "gpu.reading";
  let source: GpuSource | undefined;
  const read = async (): Promise<readonly Finding[]> => {
    source = await backend.open(section, context);
    const { polls, tookMs } = await readEach(context, source);
    // After the polls: by then the backend knows what each GPU refuses.
    const gpus = await source.inventory();
    const poll = merged(polls);
    const energy = judgeEnergy(gpus, polls);
    return [judgePoll(gpus, poll, source.status(), tookMs), ...energy, ...judgeCapabilities(gpus, poll)];
  };
  try {
    return await within(context, READ_MS, `reading through ${backend.name}`, read());
  } catch (error) {
    const { seen, hint } = reasonOf(error);
    return [{ id, verdict: "fail", seen, remedy: hint ?? "look for XID and NVRM messages in `dmesg`" }];
  } finally {
    await source?.close().catch(() => {});
  }
}

/**
 * Polls until every GPU was read or is known to fail, and for as long as an energy counter takes to be compared with
 * power. Rows of a tool come one by one, and a page changes once in a while.
 */
async function readEach(
  context: CheckContext,
  source: GpuSource,
): Promise<{ readonly polls: readonly GpuPoll[]; readonly tookMs: number }> {
  const { clock } = context;
  const first = await source.poll();
  const polls = [first];
  const expected = await source.inventory();
  const until = clock.now() + EACH_MS * 1e6;
  const pending = (): boolean => {
    const seen = polls.flatMap(({ gaps, samples }) => [
      ...samples.map(({ gpu }) => gpu),
      ...gaps.map((gap) => gap.source.slice("gpu:".length)),
    ]);
    return expected.some(({ uuid }) => !seen.includes(uuid));
  };
  const counts = (): boolean =>
    polls.some(({ samples }) => samples.some(({ energyMillijoules }) => energyMillijoules !== undefined));
  while (
    clock.now() < until &&
    (pending() || (counts() && clock.now() < until - (EACH_MS - ENERGY_MS) * 1e6))
  ) {
    await clock.sleep(POLL_MS, context.signal);
    polls.push(await source.poll());
  }
  return { polls, tookMs: Math.round((first.received - first.sent) / 1e6) };
}

/** The polls as one: the newest reading of every GPU, and the gaps of the last. A GPU that was read has no gap. */
function merged(polls: readonly GpuPoll[]): GpuPoll {
  const last = polls.at(-1) as GpuPoll;
  const samples = new Map<string, GpuSample>();
  for (const poll of polls)
    for (const sample of poll.samples) samples.set(sample.gpu, { ...samples.get(sample.gpu), ...sample });
  return { ...last, samples: [...samples.values()] };
}

/** The verdict on one inventory and its readings. Exported for its test: no fake driver is that broken. */
export function judgePoll(
  gpus: readonly GpuInfo[],
  poll: GpuPoll,
  status: Readonly<Record<string, unknown>>,
  ms = Math.round((poll.received - poll.sent) / 1e6),
): Finding {
  const id = "gpu.reading";
  const names = [...new Set(gpus.map((gpu) => gpu.name))].join(", ");
  const facts = { gpus, gaps: poll.gaps, tookMs: ms, status };
  const count = `${gpus.length} GPU${gpus.length === 1 ? "" : "s"} (${names})`;
  if (gpus.length === 0) {
    return { id, verdict: "fail", seen: "the driver answers, but shows no GPU", remedy: NO_GPU, facts };
  }
  if (poll.gaps.length > 0) {
    const named = poll.gaps.slice(0, GAPS_MAX).map(({ reason, source }) => `${source}: ${reason}`);
    const more = poll.gaps.length > GAPS_MAX ? ` and ${poll.gaps.length - GAPS_MAX} more` : "";
    const seen = `${count}; ${poll.gaps.length} could not be read: ${named.join("; ")}${more}`;
    const hints = [...new Set(poll.gaps.flatMap(({ hint }) => hint ?? []))];
    const remedy = hints.length === 0 ? "look for XID and NVRM messages in `dmesg`" : hints.join("; ");
    return { id, verdict: "fail", seen, remedy, facts };
  }
  const missing = withoutJoules(gpus, poll.samples);
  if (missing > 0) {
    const seen = `${count}; ${missing} report neither energy nor power, so there will be no joules for them`;
    const remedy = "energy needs Volta or newer, or a board that reports its power";
    return { id, verdict: "warn", seen, remedy, facts };
  }
  if (ms > 1000) {
    const remedy = "enable persistence mode: `nvidia-smi -pm 1`, or run nvidia-persistenced";
    const seen = `${count} read in ${ms} ms, slower than once a second`;
    return { id, verdict: "warn", seen, remedy, facts };
  }
  return { id, verdict: "ok", seen: `${count} read in ${ms} ms`, facts };
}

/** GPUs whose energy is neither counted nor can be integrated. An instance has its board's. */
function withoutJoules(gpus: readonly GpuInfo[], samples: readonly GpuSample[]): number {
  const boards = new Set(gpus.filter(({ parent }) => parent === undefined).map(({ uuid }) => uuid));
  return samples.filter(
    ({ energyMillijoules, gpu, powerInstantWatts, powerRing, powerWatts }) =>
      boards.has(gpu) &&
      [energyMillijoules, powerInstantWatts, powerRing, powerWatts].every((value) => value === undefined),
  ).length;
}

const NO_GPU = "check NVIDIA_VISIBLE_DEVICES in a container, and `nvidia-smi -L` on the host";
