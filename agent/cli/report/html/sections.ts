// The parts of a report as a page, in the order in which people ask: what came out, where the time went, what it cost and
// earned, who used it, what was wasted, and how far all that can be trusted.
import { stateLooks, stateOrder } from "../../../platform/state-colours.ts";
import { hatchPattern, stackedStates, stateBar, stateLegend, stateMark } from "./charts.ts";
import type { Note, PageData, Table } from "./gather.ts";
import type { FigureColumn, JsonLine } from "./write.ts";
import {
  compact,
  escapeHtml,
  figure,
  hours,
  kilowattHours,
  lineTable,
  nameCell,
  numberAt,
  percent,
  short,
  tableStart,
  whole,
} from "./write.ts";

type State = (typeof stateOrder)[number];

/** The figures people ask for first. */
export function totals({ total, tenants }: PageData): string {
  const box = (title: string, value: string, more = ""): string =>
    `<div><dt>${title}</dt><dd>${value}${more === "" ? "" : `<small>${more}</small>`}</dd></div>`;
  const kpi = (key: string, show: (value: number) => string): string => figure(total, `kpis.${key}`, show);
  return `<dl class="figures" id="totals">${[
    box("Tokens", figure(total, "total_tokens", compact), requestsOf(tenants?.total ?? total)),
    box("Tokens per GPU-hour", kpi("tokens_per_gpu_hour", compact), "of hours a server held"),
    box("Token-active time share", kpi("token_active_utilization", percent), capacityWords(total)),
    box("Tokens per joule", kpi("tokens_per_joule", short), "at the GPU boards"),
    box("Cost", figure(total, "cost", short), "of all GPU time with a price"),
    box("Revenue", figure(total, "revenue", short), "tokens times their price"),
    box("Gross margin", kpi("gross_margin", percent), "of the hours a server held"),
    box("Cost per million tokens", kpi("cost_per_million_tokens.allocation", short), currencyOf(total)),
    box(
      "GPU time observed",
      kpi("coverage", percent),
      numberAt(total, "kpis.uncertain_time_share") === undefined
        ? ""
        : `${kpi("uncertain_time_share", percent)} of it by an assumption`,
    ),
  ].join("")}</dl>`;
}

/** Capacity used, between which bounds, and where it is known from. */
function capacityWords(line: JsonLine): string {
  const [used, least, most] = ["", "_min", "_max"].map((end) =>
    numberAt(line, `kpis.capacity_utilization${end}`),
  );
  if (used === undefined || least === undefined || most === undefined) return "capacity not known";
  const source = String(line["capacity_source"] ?? "");
  const words = least === most ? percent(used) : `${percent(least)} to ${percent(most)}`;
  return `${words} of capacity (${source})`;
}

function requestsOf(line: JsonLine): string {
  const all = figure(line, "total_requests", whole);
  return all === "–" ? "" : `${all} requests`;
}

function currencyOf(line: JsonLine): string {
  const currency = line["currency"];
  return typeof currency === "string" ? escapeHtml(currency) : "one currency only";
}

/** Where the GPU time went: by day, and in all. */
export function states({ byPeriod, states: table, unit, where }: PageData): string {
  const chart = stackedStates(byPeriod, unit);
  if (chart === "")
    return section(
      "states",
      "Where the GPU time went",
      "<p>No GPU time by state is booked for this range.</p>",
    );
  const all = table.rows.reduce(
    (sum, { line, names }) => sum + (numberAt(line, `gpu_seconds.${names[0]}`) ?? 0),
    0,
  );
  const rows = stateOrder.flatMap((state) => {
    const found = table.rows.find(({ names }) => names[0] === state);
    if (found === undefined) return [];
    const seconds = numberAt(found.line, `gpu_seconds.${state}`) ?? 0;
    const time = figure(found.line, `gpu_seconds.${state}`, hours);
    const energy = figure(found.line, "energy_joules", kilowattHours);
    return [
      `<tr data-row="${escapeHtml(JSON.stringify([state]))}"><th scope="row">${stateMark(state)}${stateLooks[state].label}</th><td>${time}</td><td>${percent(seconds / all)}</td><td>${energy}</td><td>${figure(found.line, "cost", short)}</td></tr>`,
    ];
  });
  const body = `<figure>${chart}<figcaption>GPU-hours by ${unit}${where.length > 0 ? "" : `: each ${unit} has its hours once for every GPU`}.</figcaption></figure>
${stateLegend(table.rows.map(({ names }) => names[0] ?? ""))}
${tableStart("states")}<thead><tr><th class="name" scope="col">state</th><th scope="col">GPU-hours</th><th scope="col">share</th><th scope="col">kWh</th><th scope="col">cost</th></tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
  return section("states-section", "Where the GPU time went", hatchPattern + body);
}

const efficiency: readonly FigureColumn[] = [
  { title: "tokens", key: "total_tokens", show: compact },
  { title: "tokens per GPU-hour", key: "kpis.tokens_per_gpu_hour", show: compact, hasBar: true },
  { title: "tokens per joule", key: "kpis.tokens_per_joule", show: short, hasBar: true },
  { title: "token-active", key: "kpis.token_active_utilization", show: percent },
  { title: "of capacity", key: "kpis.capacity_utilization", show: percent },
  { title: "at least", key: "kpis.capacity_utilization_min", show: percent },
  { title: "at most", key: "kpis.capacity_utilization_max", show: percent },
];

/** What models made of their GPUs. */
export function models({ models: table }: PageData): string {
  const made = table.rows.filter(({ line }) => numberAt(line, "total_tokens") !== undefined);
  if (made.length === 0) return "";
  const body = lineTable("models", ["model", "GPU type"], efficiency, made, table.total);
  return section(
    "models-section",
    "Efficiency by model and GPU type",
    `${body}${left(table, "model and GPU type")}`,
  );
}

const moneyColumns: readonly FigureColumn[] = [
  { title: "cost", key: "cost", show: short },
  { title: "revenue", key: "revenue", show: short },
  { title: "gross margin", key: "kpis.gross_margin", show: percent },
  { title: "cost per million tokens", key: "kpis.cost_per_million_tokens.allocation", show: short },
];

/** Cost and margin by model and GPU type. */
export function money({ models: table, unpricedTokens }: PageData): string {
  if (((table.total["money"] ?? []) as readonly unknown[]).length === 0) {
    const why = "No amount is booked: the agent has no price file, or it has no price for what ran here.";
    return section("money-section", "Cost and margin", `<p>${why}</p>`);
  }
  const unpriced =
    unpricedTokens > 0n
      ? `<p class="note">${compact(Number(unpricedTokens))} tokens of customers have no price and are not in the revenue.</p>`
      : "";
  const body = lineTable("money", ["model", "GPU type"], moneyColumns, table.rows, table.total);
  return section(
    "money-section",
    "Cost and margin",
    `${body}${left(table, "model and GPU type")}${unpriced}`,
  );
}

const customerColumns: readonly FigureColumn[] = [
  { title: "requests", key: "total_requests", show: whole },
  { title: "tokens", key: "total_tokens", show: compact, hasBar: true },
  { title: "tokens of failed requests", key: "kpis.error_share", show: percent },
  { title: "revenue", key: "revenue", show: short },
  { title: "cost", key: "cost", show: short },
  { title: "gross margin", key: "kpis.gross_margin", show: percent },
  { title: "fullest quota", key: "quota.name", show: "as it is" },
  { title: "used", key: "quota.used", show: compact },
  { title: "limit", key: "quota.limit", show: compact },
  { title: "unit", key: "quota.unit", show: "as it is" },
  { title: "of it", key: "quota.share", show: percent },
  { title: "state", key: "quota.state", show: "as it is" },
];

/** Who used it. */
export function tenants({ tenants: table }: PageData): string {
  if (table === undefined || table.rows.length === 0) return "";
  const body = lineTable("tenants", ["tenant"], customerColumns, table.rows, table.total);
  const quotas = table.rows.some(({ line }) => line["quota"] != null)
    ? " A quota is as it stood at the end of the range, in the window of that instant, against this host's part of the limit."
    : "";
  const about = `<p class="note">Revenue and tokens are all a tenant used through the gateways; cost is its share of the GPU time of this host, by weighted tokens.${quotas}</p>`;
  return section("tenants-section", "Tenants", `${body}${left(table, "tenant")}${about}`);
}

/** What was paid for and made nothing. */
export function waste({ waste: { left: more, rows, total } }: PageData): string {
  const cost = rows.some((row) => row["cost"] !== "");
  if (rows.length === 0) return "";
  const lineOf = (row: Readonly<Record<string, string>>): JsonLine => ({
    ...Object.fromEntries(Object.entries(row).map(([name, text]) => [name, text === "" ? null : text])),
    money: row["cost"] ? [{ currency: row["currency"] ?? "", cost: row["cost"] ?? "" }] : [],
  });
  const hoursOf = (state: string): FigureColumn => ({
    title: `${state} h`,
    key: `${state}_hours`,
    show: (value) => hours(value * 3600),
  });
  const columns: readonly FigureColumn[] = [
    ...["parked", "stalled", "other", "free"].map(hoursOf),
    { title: "cost", key: "cost", show: short },
  ];
  const lines = rows.map((row) => ({
    names: [row["server"] ?? "", row["gpu"] ?? "", row["gpu_type"] ?? ""],
    line: lineOf(row),
  }));
  const sums = total.map((row) => ({ names: ["all", "", ""], line: lineOf(row), isTotal: true as const }));
  const table = lineTable("waste", ["server", "GPU", "GPU type"], columns, [...lines, ...sums]);
  const about = `<p class="note">Hours in which a GPU was held or free and made no token, ${cost ? "the costliest first" : "without a price"}.${more > 0 ? ` ${more} more lines are in the sums.` : ""}</p>`;
  return section("waste-section", "Top waste", `${about}${table}`);
}

/** Each GPU: its time by state, its energy. */
export function boards({ boards: table }: PageData): string {
  const rows = table.rows.map(({ line, names }) => {
    const seconds = (state: string): number | undefined => numberAt(line, `gpu_seconds.${state}`);
    const bar = stateBar(seconds);
    const active = figure(line, "gpu_seconds.token_active", hours);
    return `<tr data-row="${escapeHtml(JSON.stringify(names))}">${names.map((name) => nameCell(name)).join("")}<td>${bar}</td><td>${active}</td><td>${figure(line, "energy_joules", kilowattHours)}</td><td>${figure(line, "cost", short)}</td></tr>`;
  });
  if (rows.length === 0) return "";
  const head = ["GPU", "type"].map((name) => `<th class="name" scope="col">${name}</th>`).join("");
  return section(
    "boards-section",
    "GPUs",
    `${tableStart("boards")}<thead><tr>${head}<th scope="col">states</th><th scope="col">token-active h</th><th scope="col">kWh</th><th scope="col">cost</th></tr></thead><tbody>${rows.join("\n")}</tbody></table></div>${left(table, "GPU")}`,
  );
}

const noteTexts: Readonly<Record<string, readonly [what: string, show: (amount: number) => string]>> = {
  "tokenwatt.unmatched_tokens": ["tokens that met no observed GPU time", compact],
  "tokenwatt.uncertain_time": ["GPU-hours decided by an assumption", (nanos) => hours(nanos / 1e9)],
  "tokenwatt.uncertain_energy": ["kWh decided by an assumption", (millijoules) => short(millijoules / 3.6e9)],
  "tokenwatt.gap_time": ["hours in which a source could not be read", (nanos) => hours(nanos / 1e9)],
  "tokenwatt.counter_resets": ["counters that began again", whole],
  "tokenwatt.clock_steps": ["steps of the wall clock", whole],
  "tokenwatt.late_samples": ["readings that came too late for their interval", whole],
  "tokenwatt.dropped": ["points or records that were dropped", whole],
  "tokenwatt.rejected_energy": [
    "kWh that no board can have drawn, left out",
    (millijoules) => short(millijoules / 3.6e9),
  ],
  "tokenwatt.catalog_misses": ["quarters of an hour without a price for", whole],
  "tokenwatt.invariant_violations": ["laws of the accounting that did not hold", whole],
};

/** How far the figures can be trusted. */
export function trust({ notes, total }: PageData): string {
  const kpi = (key: string): string => figure(total, `kpis.${key}`, percent);
  const rows = notes.map(({ about, amount, metric }: Note) => {
    const [what, show] = noteTexts[metric] ?? [metric, whole];
    return `<tr><th scope="row">${what}</th><th scope="row">${escapeHtml(about)}</th><td>${show(amount)}</td></tr>`;
  });
  const table =
    rows.length === 0
      ? ""
      : `${tableStart("notes")}<thead><tr><th class="name" scope="col">what</th><th class="name" scope="col">why or where</th><th scope="col">how much</th></tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
  return section(
    "trust-section",
    "Coverage and uncertainty",
    `<p>${kpi("coverage")} of the GPU time was observed. Of that, ${kpi("uncertain_time_share")} of the time and ${kpi("uncertain_energy_share")} of the energy rest on an assumption.</p>${table}`,
  );
}

/** What the words mean. */
export function method(): string {
  const about: readonly (readonly [string, string])[] = [
    [
      "States of a GPU",
      `Every second of every GPU is in exactly one state: ${stateOrder.map((state: State) => `${stateLooks[state].label} (${stateLooks[state].meaning})`).join("; ")}. They add up to wall time.`,
    ],
    [
      "Token-active time share",
      "Token-active seconds per second in which a server held the GPU. It is an occupancy: one request counts as much as a full batch, so it is read beside the share of capacity.",
    ],
    [
      "Share of capacity",
      "Tokens of what the GPU time could have made at the rate that is configured, in the price file, or learned from what the server made of it so far. A learned rate has bounds that hold it in 9 of 10 cases; they are wide where the server was never seen at its limit. Time before a rate was known is left out on both sides.",
    ],
    [
      "Tokens per GPU-hour, tokens per joule",
      "Input (cached included) and output tokens of the engines, per hour and joule in which a server held the GPU. Tokens that met no observed GPU time are left out. Joules are those of the GPU boards.",
    ],
    [
      "Cost, revenue and margin",
      "Cost is GPU time, and energy where the price does not include it, at the prices of the price file; unobserved time is charged too. Revenue is tokens times the price in force when they were used, of the outcomes that are billed. Margin is 1 - cost / revenue, with the cost of the hours a server held and the revenue of what was made here. Amounts of two currencies are never added.",
    ],
    ["What is not known", "A dash means that nothing was booked or nothing can say; it is never a zero."],
    ["Letters", "M is a million, B a billion (10^9), T 10^12."],
  ];
  const list = about.map(([title, text]) => `<dt>${title}</dt><dd>${escapeHtml(text)}</dd>`).join("");
  return section("method-section", "How the figures are made", `<dl class="method">${list}</dl>`);
}

function section(id: string, title: string, body: string): string {
  return `<section id="${id}"><h2>${title}</h2>\n${body}</section>`;
}

function left({ left: more }: Table, what: string): string {
  return more === 0
    ? ""
    : `<p class="note">${more} more lines by ${what} are in the total and not shown.</p>`;
}
