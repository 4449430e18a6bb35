// gpu.backend: which backends can work here and which one wins. gpu.reading: whether it really reads. gpu.capabilities:
// what each GPU cannot tell (capabilities.ts).
// The reading goes through the same source as the daemon's; a driver that hangs shows as a failed check after 8 s.
import { configuredBackends } from "../../config/load.ts";
import type { GpuInfo } from "../../model.ts";
import type { Detection, GpuBackend, GpuPoll, GpuSource } from "../../source.ts";
import { judgeCapabilities } from "./capabilities.ts";
import type { Check, CheckContext, Finding } from "./check.ts";
import { reasonOf, within } from "./check.ts";

const DETECT_MS = 5000;
const READ_MS = 8000;

/** Finds the GPU backend that works here and reads each GPU through it. */
export const backendCheck: Check = {
  ids: ["gpu.backend", "gpu.reading", "gpu.capabilities"],
  run: async (context) => {
    if (context.loaded === undefined) return [];
    const tried = await detectAll(context, context.loaded.config);
    const winner = tried.find(({ detection }) => detection.usable);
    const found = judgeBackends(tried, winner);
    return winner === undefined ? [found] : [found, ...(await judgeReading(context, winner))];
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
    remedy:
      "on a GPU host install the driver's library libnvidia-ml.so.1 or put nvidia-smi on PATH; in a container use the " +
      "NVIDIA runtime with NVIDIA_DRIVER_CAPABILITIES=utility. Without a GPU tokens are still counted, GPU time is not",
    facts,
  };
}

async function judgeReading(context: CheckContext, { backend, section }: Tried): Promise<readonly Finding[]> {
  const id = "gpu.reading";
  let source: GpuSource | undefined;
  const read = async (): Promise<readonly Finding[]> => {
    source = await backend.open(section, context);
    const poll = await source.poll();
    // After the poll: by then the backend knows what each GPU refuses.
    const gpus = await source.inventory();
    return [judgePoll(gpus, poll, source.status()), ...judgeCapabilities(gpus, poll.samples)];
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

/** The verdict on one inventory and poll. Exported for its test: no fake driver is that broken. */
export function judgePoll(
  gpus: readonly GpuInfo[],
  poll: GpuPoll,
  status: Readonly<Record<string, unknown>>,
): Finding {
  const id = "gpu.reading";
  const names = [...new Set(gpus.map((gpu) => gpu.name))].join(", ");
  const ms = Math.round((poll.received - poll.sent) / 1e6);
  const facts = { gpus, gaps: poll.gaps, tookMs: ms, status };
  const count = `${gpus.length} GPU${gpus.length === 1 ? "" : "s"} (${names})`;
  if (gpus.length === 0) {
    return { id, verdict: "fail", seen: "the driver answers, but shows no GPU", remedy: NO_GPU, facts };
  }
  if (poll.gaps.length > 0) {
    const [gap] = poll.gaps;
    const seen = `${count}; ${poll.gaps.length} could not be read: ${gap?.source}: ${gap?.reason}`;
    return { id, verdict: "fail", seen, remedy: "look for XID and NVRM messages in `dmesg`", facts };
  }
  const missing = poll.samples.filter(
    (sample) => sample.powerWatts === undefined && sample.energyMillijoules === undefined,
  );
  if (missing.length > 0) {
    const seen = `${count}; ${missing.length} tell neither energy nor power, so there will be no joules for them`;
    return {
      id,
      verdict: "warn",
      seen,
      remedy: "energy needs Volta or newer, or a board that reports its power",
      facts,
    };
  }
  if (ms > 1000) {
    const remedy = "enable persistence mode: `nvidia-smi -pm 1`, or run nvidia-persistenced";
    return {
      id,
      verdict: "warn",
      seen: `${count} read in ${ms} ms, slower than once a second`,
      remedy,
      facts,
    };
  }
  return { id, verdict: "ok", seen: `${count} read in ${ms} ms`, facts };
}

const NO_GPU = "check NVIDIA_VISIBLE_DEVICES in a container, and `nvidia-smi -L` on the host";
