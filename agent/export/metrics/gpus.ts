// Metrics of GPUs and the host: where each second and joule went, and readings under OpenTelemetry's hardware names.
// hw.*: semantic conventions 1.44, "development"; hw.type is always "gpu", hw.vendor "NVIDIA" here.
import type { Metric } from "./metric.ts";
import { count, GPU, gauge, info, joules, level, money, seconds } from "./rows.ts";

const STATE = "tokenwatt.gpu.state";
const METHOD = "tokenwatt.method";
/** Who holds a GPU, metered or not. */
const HOLDER = [
  ...["tokenwatt.holder.kind", "tokenwatt.holder.name", "k8s.namespace.name", "k8s.pod.name"],
  ...["k8s.container.name", "tokenwatt.holder.account", "tokenwatt.holder.user", "hw.model"],
] as const;
const HARDWARE = [...GPU, "hw.type", "hw.vendor"] as const;
const development = { stability: "development" } as const;

/** Rows of the GPU side of METERING.md 5. */
export const gpuMetrics: readonly Metric[] = [
  seconds(
    "tokenwatt.gpu.time",
    [...GPU, STATE, METHOD],
    "Seconds of a GPU by the one state it was in; the six states sum to wall time",
  ),
  joules(
    "tokenwatt.gpu.energy",
    [...GPU, STATE, METHOD],
    "Energy of a GPU by state; unattributed is energy of no known second",
  ),
  seconds("tokenwatt.gpu.busy_time", GPU, "Seconds in which the GPU worked, whoever for"),
  seconds(
    "tokenwatt.uncertain_time",
    [...GPU, "tokenwatt.server.id", "tokenwatt.reason"],
    "Subset of tokenwatt.gpu.time whose state rests on an assumption, by the reason",
  ),
  joules(
    "tokenwatt.uncertain_energy",
    [...GPU, "tokenwatt.server.id", "tokenwatt.reason"],
    "Subset of tokenwatt.gpu.energy whose state or sharing rests on an assumption, by the reason",
  ),
  seconds(
    "tokenwatt.holder.gpu_time",
    HOLDER,
    "Seconds a GPU was held, by who holds it: a second view of the states other, parked, stalled and token_active",
  ),
  joules("tokenwatt.holder.energy", HOLDER, "Energy of those seconds, by who holds the GPU"),
  money(
    "tokenwatt.holder.cost",
    [...HOLDER, "tokenwatt.currency"],
    "Cost of those seconds, by who holds the GPU",
  ),
  joules("hw.host.energy", ["hw.id", METHOD], "Energy of the whole host", development),
  gauge("hw.host.power", "W", ["hw.id", METHOD], "Power of the whole host", development),
  joules(
    "tokenwatt.facility.energy",
    [METHOD],
    "Energy at the facility's meter: host energy times the configured PUE, integrated",
  ),
  gauge(
    "hw.gpu.utilization",
    "1",
    [...HARDWARE, "hw.gpu.task"],
    "Share of the driver's last window in which the GPU was at its task: general = a kernel was resident, else the video encoder or decoder",
    development,
  ),
  {
    ...count(
      "hw.gpu.io",
      "By",
      [...HARDWARE, "network.io.direction", "tokenwatt.gpu.link"],
      "Bytes moved over PCIe and NVLink, as seen from the GPU, since the agent first saw it",
    ),
    ...development,
  },
  level("hw.gpu.memory.usage", "By", HARDWARE, "GPU memory in use", development),
  level("hw.gpu.memory.limit", "By", HARDWARE, "GPU memory present", development),
  gauge("hw.gpu.memory.utilization", "1", HARDWARE, "Share of GPU memory in use", development),
  gauge(
    "hw.power",
    "W",
    HARDWARE,
    "GPU power, the mean of the driver's last second where it offers one",
    development,
  ),
  joules(
    "hw.energy",
    HARDWARE,
    "The GPU's energy counter as read, since the agent first saw it",
    development,
  ),
  gauge("hw.temperature", "Cel", [...HARDWARE, "hw.sensor_location"], "GPU temperature", development),
  {
    ...count(
      "hw.errors",
      "{error}",
      [...HARDWARE, "error.type"],
      "ECC errors as read, since the agent first saw them",
    ),
    ...development,
  },
  level(
    "hw.status",
    "1",
    [...HARDWARE, "hw.state"],
    "1 for the state the GPU is in, 0 for the others",
    development,
  ),
  gauge(
    "tokenwatt.gpu.energy_counter.agreement",
    "1",
    GPU,
    "What the energy counter moved over what power integrates to, in the last minute: 1 where they agree; a counter that " +
      "is off by 0.15 for five minutes, or stands still, is replaced by power (method integrated)",
  ),
  gauge("tokenwatt.gpu.sm_active", "1", GPU, "Share of SMs with a warp resident (GPM or DCGM)"),
  gauge("tokenwatt.gpu.tensor_active", "1", GPU, "Share of cycles with a tensor pipe active (GPM or DCGM)"),
  gauge("tokenwatt.gpu.dram_active", "1", GPU, "Share of cycles with GPU memory active (GPM or DCGM)"),
  gauge("tokenwatt.gpu.clock", "Hz", GPU, "Clock of the SMs"),
  gauge("tokenwatt.gpu.memory_clock", "Hz", GPU, "Clock of the GPU's memory"),
  gauge(
    "tokenwatt.gpu.power_limit",
    "W",
    GPU,
    "Power the board is held to now; changes are on the audit record",
  ),
  seconds(
    "tokenwatt.gpu.throttle_time",
    [...GPU, "tokenwatt.reason"],
    "Seconds the clocks were held down, by reason",
  ),
  count(
    "tokenwatt.gpu.xid_events",
    "{event}",
    [...GPU, "tokenwatt.xid.code"],
    "XID errors the driver reported, by code",
  ),
  info(
    "tokenwatt.gpu.info",
    [...GPU, "hw.name", "hw.vendor", "tokenwatt.gpu.pci", "hw.driver_version", "tokenwatt.gpu.mig_profile"],
    "1 per GPU; its attributes describe it",
  ),
];
