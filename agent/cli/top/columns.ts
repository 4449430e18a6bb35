// The columns of the screen's tables. Ranks say which stay where there is little room: at 80 columns those of 60 and more.
import type { ViewGpu, ViewQuota, ViewServer, ViewTenant } from "../../export/page/view.ts";
import { stateLooks } from "../../platform/state-colours.ts";
import type { Column } from "./grid.ts";
import type { HolderRow, Of } from "./rows.ts";
import { stateBar } from "./rows.ts";
import type { Look, Style } from "./text.ts";
import { piece } from "./text.ts";
import {
  compact,
  duration,
  energy,
  figure,
  gibibytes,
  money,
  NOTHING,
  number,
  percent,
  unit,
} from "./values.ts";

/** A column of figures; `take` gives what is shown, by `show`, and what rows are sorted by. */
function figures<Row, Value extends number | null>(
  head: string,
  [least, rank]: readonly [least: number, rank: number],
  take: (row: Row) => Value,
  show: (value: Value, row: Row, currency: string | null) => string,
): Column<Of<Row>> {
  return {
    ...{ head, least, rank, right: true },
    cell: ({ currency, row }) => show(take(row), row, currency),
    by: ({ row }) => take(row),
  };
}

/** A column with the host's name where there are several. */
export function hostColumn<Row>(several: boolean): readonly Column<Of<Row>>[] {
  if (!several) return [];
  return [{ head: "host", least: 8, more: 16, rank: 95, cell: ({ host }) => host, by: ({ host }) => host }];
}

const GPU_NAMES: readonly Column<Of<ViewGpu>>[] = [
  figures(
    "GPU",
    [4, 100],
    (gpu) => gpu.index,
    (index, { parent }) => `${parent === null ? "" : "."}${index}`,
  ),
  {
    ...{ head: "model", least: 8, more: 20, rank: 50 },
    cell: ({ row }) => (row.mig_profile ?? row.name).replace(/^NVIDIA /, ""),
    by: ({ row }) => row.name,
  },
];

const HOT_CELSIUS = 85;

const GPU_FIGURES: readonly Column<Of<ViewGpu>>[] = [
  figures(
    "util",
    [4, 80],
    (gpu) => gpu.utilization,
    (value) => percent(value),
  ),
  figures(
    "power",
    [5, 79],
    (gpu) => gpu.power_watts,
    (value) => unit(value, "W"),
  ),
  figures(
    "limit",
    [5, 20],
    (gpu) => gpu.power_limit_watts,
    (value) => unit(value, "W"),
  ),
  figures(
    "mem GiB",
    [7, 70],
    (gpu) => gpu.memory_used_bytes,
    (value, gpu) => `${gibibytes(value)}/${gibibytes(gpu.memory_total_bytes)}`,
  ),
  {
    ...{ head: "temp", least: 4, rank: 60, right: true },
    cell: ({ row: { temperature_celsius: value } }) => [
      piece(unit(value, "C"), (value ?? 0) >= HOT_CELSIUS ? "bad" : undefined),
    ],
    by: ({ row }) => row.temperature_celsius,
  },
  figures(
    "tok/s",
    [7, 85],
    (gpu) => gpu.tokens_per_second,
    (value) => number(value),
  ),
  figures("tok/J", [5, 84], (gpu) => gpu.tokens_per_joule, figure),
  figures("tok/GPU-h", [9, 30], (gpu) => gpu.tokens_per_gpu_hour, compact),
  figures(
    "active",
    [6, 40],
    (gpu) => gpu.token_active_utilization,
    (value) => percent(value),
  ),
  {
    ...{ head: "state", least: 12, rank: 35 },
    cell: ({ row }) => (row.state === null ? NOTHING : [piece(stateLooks[row.state].label, row.state)]),
  },
];

/** From this width on the token-active share is shown: the head then says what capacity was used (METERING.md 2). */
export const SHARE_FROM_COLUMNS = 110;

/** The columns of GPUs. */
export function gpuColumns(look: Look, width: number): readonly Column<Of<ViewGpu>>[] {
  const bar: Column<Of<ViewGpu>> = {
    ...{ head: "last minute", least: 14, more: 46, rank: 90 },
    cell: ({ row }, width) => stateBar(row.minute, width, look),
    by: ({ row }) => row.state_seconds.token_active,
  };
  const all = [...GPU_NAMES, bar, ...GPU_FIGURES];
  return width >= SHARE_FROM_COLUMNS ? all : all.filter(({ head }) => head !== "active");
}

const SERVER_NAMES: readonly Column<Of<ViewServer>>[] = [
  {
    ...{ head: "server", least: 14, more: 20, rank: 100 },
    cell: ({ row }) => [piece(row.id, row.ok === false ? "bad" : undefined)],
    by: ({ row }) => row.id,
  },
  {
    ...{ head: "kind", least: 8, more: 8, rank: 20 },
    cell: ({ row }) => (row.family === "gateway" ? `${row.type}, gateway` : row.type),
  },
  {
    ...{ head: "model", least: 10, more: 26, rank: 40 },
    cell: ({ row }) => row.models.join(", ") || NOTHING,
    by: ({ row }) => row.models[0] ?? null,
  },
];

const SERVER_FIGURES: readonly Column<Of<ViewServer>>[] = [
  figures(
    "run",
    [4, 80],
    (one) => one.running,
    (value) => number(value),
  ),
  figures(
    "wait",
    [4, 79],
    (one) => one.waiting,
    (value) => number(value),
  ),
  figures(
    "KV",
    [4, 25],
    (one) => one.kv_cache_utilization,
    (value) => percent(value),
  ),
  figures(
    "tok/s",
    [7, 90],
    (one) => one.tokens_per_second,
    (value) => number(value),
  ),
  figures(
    "out/s",
    [7, 50],
    (one) => one.output_tokens_per_second,
    (value) => number(value),
  ),
  figures("tok/J", [5, 70], (one) => one.tokens_per_joule, figure),
  figures("tok/GPU-h", [9, 30], (one) => one.tokens_per_gpu_hour, compact),
  figures(
    "share",
    [5, 75],
    (one) => one.share,
    (value) => percent(value),
  ),
  figures(
    "cost/h",
    [10, 60],
    (one) => one.cost_per_hour,
    (value, _, currency) => money(value, currency),
  ),
];

/** The columns of servers; `indexOf` numbers a GPU. */
export function serverColumns(
  indexOf: (uuid: string) => number | undefined,
): readonly Column<Of<ViewServer>>[] {
  const gpus: Column<Of<ViewServer>> = {
    ...{ head: "GPUs", least: 5, more: 10, rank: 45 },
    cell: ({ row }) => row.gpus.flatMap((gpu) => indexOf(gpu) ?? []).join(",") || NOTHING,
  };
  return [...SERVER_NAMES, gpus, ...SERVER_FIGURES];
}

const ERRORS_MANY = 0.05;

/** The columns of tenants. */
export const tenantColumns: readonly Column<Of<ViewTenant>>[] = [
  {
    head: "tenant",
    least: 14,
    more: 24,
    rank: 100,
    cell: ({ row }) => row.tenant,
    by: ({ row }) => row.tenant,
  },
  figures(
    "tok/s",
    [8, 90],
    (one) => one.tokens_per_second,
    (value) => number(value),
  ),
  figures("tokens", [11, 80], (one) => one.tokens, compact),
  figures(
    "requests",
    [9, 70],
    (one) => one.requests,
    (value) => number(value),
  ),
  {
    ...{ head: "not ok", least: 6, rank: 60, right: true },
    cell: ({ row }) => [
      piece(percent(row.error_share, 1), (row.error_share ?? 0) > ERRORS_MANY ? "warn" : undefined),
    ],
    by: ({ row }) => row.error_share,
  },
  figures(
    "GPU time",
    [8, 40],
    (one) => one.gpu_seconds,
    (value) => (value === null ? NOTHING : duration(value)),
  ),
  figures("energy", [9, 30], (one) => one.joules, energy),
  figures(
    "cost",
    [12, 50],
    (one) => one.cost,
    (value, _, currency) => money(value, currency),
  ),
];

const QUOTA_STYLES: Readonly<Record<string, Style>> = { ok: "good", warn: "warn", over: "bad" };

/** The columns of quotas. */
export const quotaColumns: readonly Column<Of<ViewQuota>>[] = [
  { head: "quota", least: 14, more: 20, rank: 100, cell: ({ row }) => row.name, by: ({ row }) => row.name },
  {
    ...{ head: "for", least: 14, more: 30, rank: 90 },
    cell: ({ row }) => Object.values(row.key).join(" ") || "all",
    by: ({ row }) => Object.values(row.key).join(" "),
  },
  {
    ...{ head: "state", least: 7, rank: 85 },
    cell: ({ row }) => [piece(row.state, QUOTA_STYLES[row.state])],
    by: ({ row }) => row.state,
  },
  figures("full", [6, 80], fill, (value) => percent(value)),
  {
    ...figures("used", [10, 70], (one: ViewQuota) => one.used, compact),
    cell: ({ row }) => `${compact(row.used)}${row.used !== null && row.whole_window === false ? "+" : ""}`,
  },
  figures("limit", [9, 60], (one) => one.limit, compact),
  { head: "of", least: 16, rank: 50, cell: ({ row }) => `${row.currency ?? row.count} per ${row.per}` },
  { head: "resets", least: 17, rank: 40, cell: ({ row }) => `${row.until.slice(0, 16).replace("T", " ")}Z` },
];

function fill({ limit, used }: ViewQuota): number | null {
  return limit === null || used === null || limit === 0 ? null : used / limit;
}

/** The columns of holders. */
export const holderColumns: readonly Column<Of<HolderRow>>[] = [
  { head: "kind", least: 9, rank: 90, cell: ({ row }) => row.kind, by: ({ row }) => row.kind },
  { head: "holder", least: 20, more: 50, rank: 100, cell: ({ row }) => row.name, by: ({ row }) => row.name },
  { head: "GPUs", least: 8, more: 16, rank: 80, cell: ({ row }) => row.gpus.join(",") },
  figures(
    "GPUs held",
    [9, 70],
    (one) => one.share,
    (value) => number(value, 2),
  ),
  figures(
    "power",
    [7, 60],
    (one) => one.watts,
    (value) => unit(value, "W"),
  ),
];
