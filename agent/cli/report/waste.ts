// Where GPU time was paid for and made nothing: parked, stalled, other and free hours with their money, by server and GPU.
// Hours come from `tokenwatt.server.gpu_time` where a server held the GPU, from `tokenwatt.gpu.time` where none did.
import { bucketMillis } from "../../meter/ledger/grid.ts";
import { decimalOf, integerOf } from "../../meter/money/split.ts";
import type { Dimensions } from "../../model.ts";
import type { LedgerReader } from "../../store/ledger/reader.ts";
import { UsageError } from "../common/errors.ts";
import { formatBlocks } from "../common/table.ts";
import { readTop } from "./arrange.ts";
import { moneyText } from "./decimal-text.ts";
import { csv } from "./formats.ts";
import type { Question } from "./groups.ts";
import { fits, groupName } from "./groups.ts";
import type { ReportRange } from "./range.ts";

const held = ["parked", "stalled"] as const;
const unheld = ["other", "free"] as const;
const states = [...held, ...unheld] as const;
type State = (typeof states)[number];
const wasteColumns: readonly string[] = [
  ...["server", "gpu", "gpu_type"],
  ...states.map((state) => `${state}_hours`),
  ...states.map((state) => `${state}_cost`),
  ...["cost", "currency"],
];

interface Waste {
  readonly server: string;
  readonly gpu: string;
  readonly gpuType: string;
  readonly nanos: Partial<Record<State, bigint>>;
  /** 1e-9, by state and currency. */
  readonly cost: Map<string, bigint>;
}

/** One line of waste: names, hours and money by state as exact decimals, empty where nothing is known. */
export type WasteRow = Readonly<Record<string, string>>;

/** What is asked of the ledger, and how it is shown. */
export interface WasteQuestion {
  readonly range: ReportRange;
  /** Names a server, GPU or GPU type must have. */
  readonly where: Question["where"];
  readonly sort?: string | undefined;
  readonly top?: string | undefined;
  /** Of a table. */
  readonly width?: number | undefined;
}

const widthOfPaper = 80;
const labels = 3;

/** The waste of a range in a format, the costliest first, with its total where people read it. */
export function wasteReport(
  reader: Pick<LedgerReader, "series" | "sums">,
  question: WasteQuestion,
  format: "table" | "csv" | "json",
): { readonly text: string; readonly left: number } {
  const { range, sort, top, width = widthOfPaper } = question;
  const all = wasteRows(reader, question);
  const sorted = sort === undefined ? all : sortRows(all, sort.replaceAll("-", "_"));
  const rows = sorted.slice(0, readTop(top));
  const total = wasteTotal(all);
  const left = all.length - rows.length;
  if (format === "json") {
    const head = { from: iso(range.from), to: iso(range.to), time_zone: range.zone };
    return { text: JSON.stringify({ ...head, lines: rows.map(nulls), total: total.map(nulls) }), left };
  }
  const cells = (row: WasteRow): string[] => wasteColumns.map((name) => row[name] ?? "");
  if (format === "csv") return { text: csv([[...wasteColumns], ...rows.map(cells)]), left };
  const shown = (row: WasteRow): string[] =>
    wasteColumns.map((name, column) => {
      const text = row[name] ?? "";
      if (column < labels || name === "currency") return column < labels ? text : text || "-";
      if (text === "") return "-";
      return name.endsWith("_hours") ? Number(text).toFixed(3) : moneyText(text, row["currency"]);
    });
  const titles = wasteColumns.map((name) => name.replace("_hours", " h").replace("_cost", " cost"));
  const lines = [...rows, ...(rows.length === 0 ? [] : total)].map(shown);
  return { text: formatBlocks([titles, ...lines], { labels, width }), left };
}

/** The lines, the costliest of each currency first, then those without a price by their hours. */
export function wasteRows(
  reader: Pick<LedgerReader, "series" | "sums">,
  { range, where }: Pick<WasteQuestion, "range" | "where">,
): readonly WasteRow[] {
  const rows = readWaste(reader, range, where).flatMap((one) => {
    const own = currenciesOf([one]);
    return (own.length === 0 ? [""] : own).map((currency, index) => rowOf(one, currency, index === 0));
  });
  return sortRows(rows, "cost");
}

/** Hours of all lines, and money of each currency. */
export function wasteTotal(rows: readonly WasteRow[]): readonly WasteRow[] {
  const byCurrency = new Map<string, Map<string, bigint>>();
  const currencies = [...new Set(rows.map((row) => row["currency"] ?? ""))]
    .filter((one) => one !== "")
    .sort();
  const first = currencies[0] ?? "";
  for (const currency of currencies.length === 0 ? [""] : currencies) byCurrency.set(currency, new Map());
  for (const row of rows) {
    for (const name of wasteColumns.slice(labels, -1)) {
      const value = row[name] ?? "";
      // Hours are the same whatever they cost in.
      const sums = byCurrency.get(name.endsWith("_hours") ? first : (row["currency"] ?? ""));
      if (value !== "") sums?.set(name, (sums.get(name) ?? 0n) + integerOf(value, 9));
    }
  }
  return [...byCurrency].map(([currency, sums]) => ({
    ...{ server: "total", gpu: "", gpu_type: "" },
    ...Object.fromEntries([...sums].map(([name, sum]) => [name, decimalOf(sum, 9)])),
    currency,
  }));
}

/** By a column: numbers fall, within their currency where they are money; names rise; what is not known comes last. */
function sortRows(rows: readonly WasteRow[], name: string): readonly WasteRow[] {
  if (!wasteColumns.includes(name))
    throw new UsageError(`Cannot sort --waste by "${name}"`, `wanted one of ${wasteColumns.join(", ")}`);
  const isMoney = name.endsWith("cost");
  const hours = (row: WasteRow): number =>
    states.reduce((sum, state) => sum + Number(row[`${state}_hours`] || 0), 0);
  return [...rows].sort((one, other) => {
    const [a, b] = [one[name] ?? "", other[name] ?? ""];
    if (a === "" || b === "") return a === b ? hours(other) - hours(one) : a === "" ? 1 : -1;
    if (wasteColumns.indexOf(name) < labels) return a < b ? -1 : a > b ? 1 : 0;
    const [mine, theirs] = [one["currency"] ?? "", other["currency"] ?? ""];
    if (isMoney && mine !== theirs) return mine < theirs ? -1 : 1;
    return Number(b) - Number(a) || hours(other) - hours(one);
  });
}

function currenciesOf(found: readonly Waste[]): readonly string[] {
  return [...new Set(found.flatMap(({ cost }) => [...cost.keys()].map(currencyOf)))].sort();
}

function readWaste(
  reader: Pick<LedgerReader, "series" | "sums">,
  range: ReportRange,
  where: Question["where"],
): readonly Waste[] {
  const metrics = new Set(["tokenwatt.server.gpu_time", "tokenwatt.gpu.time", "tokenwatt.cost"]);
  const series = reader.series(metrics);
  const found = new Map<string, Waste>();
  const of = (dimensions: Dimensions, server: string | undefined): Waste | undefined => {
    const named = { ...dimensions, "tokenwatt.server.id": server ?? "" };
    if (!fits(named, where)) return undefined;
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
      const cost = of(dimensions, server)?.cost;
      const key = `${state} ${dimensions["tokenwatt.currency"] ?? ""}`;
      cost?.set(key, (cost.get(key) ?? 0n) + moved);
    } else if (isHeld === (metric === "tokenwatt.server.gpu_time")) {
      const nanos = of(dimensions, server)?.nanos;
      if (nanos !== undefined) nanos[state] = (nanos[state] ?? 0n) + moved;
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
