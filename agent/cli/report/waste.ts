// Where GPU time was paid for and made nothing: parked, stalled, other and free hours with their money, by server and GPU.
// Hours come from `tokenwatt.server.gpu_time` where a server held the GPU, from `tokenwatt.gpu.time` where none did.
import { bucketMillis } from "../../meter/ledger/grid.ts";
import { decimalOf } from "../../meter/money/split.ts";
import type { Dimensions } from "../../model.ts";
import type { LedgerReader } from "../../store/ledger/reader.ts";
import { formatTable } from "../common/table.ts";
import { csv } from "./formats.ts";
import { groupName } from "./groups.ts";
import type { ReportRange } from "./range.ts";

const held = ["parked", "stalled"] as const;
const unheld = ["other", "free"] as const;
const states = [...held, ...unheld];
type State = (typeof states)[number];

interface Waste {
  readonly server: string;
  readonly gpu: string;
  readonly gpuType: string;
  readonly nanos: Partial<Record<State, bigint>>;
  /** 1e-9, by state and currency. */
  readonly cost: Map<string, bigint>;
}

/** The waste of a range in a format, the costliest first. */
export function wasteReport(
  reader: LedgerReader,
  range: ReportRange,
  format: "table" | "csv" | "json",
): string {
  const found = readWaste(reader, range);
  const currencies = [...new Set(found.flatMap(({ cost }) => [...cost.keys()].map(currencyOf)))].sort();
  const rows = found.flatMap((one) => {
    const own = currencies.filter((name) => states.some((state) => one.cost.has(`${state} ${name}`)));
    return (own.length === 0 ? [""] : own).map((currency, index) => rowOf(one, currency, index === 0));
  });
  rows.sort((one, other) => Number(other["cost"] || 0) - Number(one["cost"] || 0));
  const names = Object.keys(rowOf(none, "", true));
  if (format === "json") {
    const head = { from: iso(range.from), to: iso(range.to), time_zone: range.zone };
    return JSON.stringify({ ...head, lines: rows.map(nulls) });
  }
  const lines = rows.map((row) => names.map((name) => row[name] ?? ""));
  if (format === "csv") return csv([names, ...lines]);
  const short = (text: string): string =>
    /^\d+\.\d{4,}$/.test(text) ? Number(text).toFixed(3) : text || "-";
  return formatTable(
    [names.map((name) => name.replace("_hours", " h")), ...lines.map((line) => line.map(short))],
    {
      rightFrom: 3,
    },
  );
}

const none: Waste = { server: "", gpu: "", gpuType: "", nanos: {}, cost: new Map() };

function readWaste(reader: LedgerReader, range: ReportRange): readonly Waste[] {
  const metrics = new Set(["tokenwatt.server.gpu_time", "tokenwatt.gpu.time", "tokenwatt.cost"]);
  const series = reader.series(metrics);
  const found = new Map<string, Waste>();
  const of = (dimensions: Dimensions, server: string | undefined): Waste => {
    const [gpu, gpuType] = [
      groupName("gpu", dimensions["hw.id"]),
      groupName("gpu_type", dimensions["hw.model"]),
    ];
    const name = groupName("server", server);
    const key = [name, gpu, gpuType].join("\u0000");
    const known = found.get(key) ?? { server: name, gpu, gpuType, nanos: {}, cost: new Map() };
    found.set(key, known);
    return known;
  };
  for (const [id, moved] of reader.sums(range.from / bucketMillis, range.to / bucketMillis, series)) {
    const one = series.get(id);
    const state = one?.dimensions["tokenwatt.gpu.state"] as State | undefined;
    if (one === undefined || state === undefined || typeof moved !== "bigint") continue;
    const { dimensions, metric } = one;
    const isHeld = (held as readonly string[]).includes(state);
    if (!isHeld && !(unheld as readonly string[]).includes(state)) continue;
    const server = isHeld ? dimensions["tokenwatt.server.id"] : undefined;
    if (metric === "tokenwatt.cost") {
      const { cost } = of(dimensions, server);
      const key = `${state} ${dimensions["tokenwatt.currency"] ?? ""}`;
      cost.set(key, (cost.get(key) ?? 0n) + moved);
    } else if (isHeld === (metric === "tokenwatt.server.gpu_time")) {
      const { nanos } = of(dimensions, server);
      nanos[state] = (nanos[state] ?? 0n) + moved;
    }
  }
  return [...found.values()];
}

function rowOf(one: Waste, currency: string, withHours: boolean): Record<string, string> {
  const cost = states.map((state) => one.cost.get(`${state} ${currency}`));
  const known = cost.filter((amount) => amount !== undefined);
  const hours = states.map((state) => [`${state}_hours`, withHours ? hoursOf(one.nanos[state]) : ""]);
  const money = states.map((state, index) => [`${state}_cost`, moneyOf(cost[index])]);
  const sum = known.length === 0 ? undefined : known.reduce((all, amount) => all + amount, 0n);
  return {
    server: one.server,
    gpu: one.gpu,
    gpu_type: one.gpuType,
    ...Object.fromEntries([...hours, ...money]),
    cost: moneyOf(sum),
    currency,
  };
}

function hoursOf(nanos: bigint | undefined): string {
  return nanos === undefined ? "" : decimalOf((nanos * 1_000_000n) / 3_600_000_000_000n, 6);
}

function moneyOf(amount: bigint | undefined): string {
  return amount === undefined ? "" : decimalOf(amount, 9);
}

function nulls(row: Readonly<Record<string, string>>): Record<string, string | null> {
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value === "" ? null : value]));
}

function currencyOf(key: string): string {
  return key.split(" ")[1] ?? "";
}

function iso(at: number): string {
  return new Date(at).toISOString();
}
