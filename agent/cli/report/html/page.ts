// A report as one page in one file: no script, no request, readable in any browser, in the light or the dark and on paper.
// What it says in words at the top is made of the same figures as its tables.

import { moneyText } from "../decimal-text.ts";
import type { LedgerView } from "../repriced.ts";
import type { PageData, PageQuestion } from "./gather.ts";
import { gather } from "./gather.ts";
import { boards, method, models, money, states, tenants, totals, trust, waste } from "./sections.ts";
import { styleSheet } from "./style.ts";
import type { JsonLine } from "./write.ts";
import { compact, escapeHtml, numberAt, percent } from "./write.ts";

/** The page of a range. */
export function htmlReport(reader: LedgerView, ask: PageQuestion): string {
  const data = gather(reader, ask);
  const title = `GPU report, ${rangeText(data.range)}`;
  const filters = data.where.map(([group, name]) => `${group} ${name}`).join(", ");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeHtml(title)}</title>
<style>${styleSheet()}</style>
</head>
<body>
<header>
<h1>${escapeHtml(title)}</h1>
<p class="about">${escapeHtml(data.agent)} · days of ${escapeHtml(data.range.zone)}${filters === "" ? "" : ` · only ${escapeHtml(filters)}`}</p>
</header>
<main>
${inWords(data)}
${warnings(data)}
${totals(data)}
${[states, models, money, tenants, waste, boards, trust].map((part) => part(data)).join("\n")}
${method()}
</main>
<footer><p class="about">Written by tokenwatt from the ledger of ${escapeHtml(data.agent)}: ${iso(data.range.from)} to ${iso(data.range.to)}, the end not included.</p></footer>
</body>
</html>`;
}

/** What happened, in a few sentences. */
function inWords({ total, waste: { total: wasted }, byPeriod }: PageData): string {
  const said: string[] = [];
  const tokens = numberAt(total, "total_tokens");
  const seconds = byPeriod
    .flatMap(({ lines }) => [...lines].map(([state, line]) => numberAt(line, `gpu_seconds.${state}`) ?? 0))
    .reduce((sum, one) => sum + one, 0);
  if (tokens !== undefined && seconds > 0)
    said.push(`${compact(tokens)} tokens were made in ${compact(seconds / 3600)} GPU-hours.`);
  for (const { cost, currency, revenue } of moneyOf(total)) {
    if (cost !== undefined) said.push(`GPU time cost ${moneyText(cost, currency)} ${currency}.`);
    if (revenue !== undefined) said.push(`Tokens earned ${moneyText(revenue, currency)} ${currency}.`);
  }
  for (const row of wasted) {
    const { cost = "", currency = "" } = row;
    if (cost !== "" && Number(cost) > 0)
      said.push(`Of the cost, ${moneyText(cost, currency)} ${currency} was for GPU time that made no token.`);
  }
  const active = numberAt(total, "kpis.token_active_utilization");
  if (active !== undefined)
    said.push(`Requests were served in ${percent(active)} of the time in which a server held a GPU.`);
  return said.length === 0
    ? '<p class="lead">Nothing is booked in this range.</p>'
    : `<p class="lead">${said.map(escapeHtml).join(" ")}</p>`;
}

function moneyOf(line: JsonLine): readonly { currency: string; cost?: string; revenue?: string }[] {
  const money = (line["money"] ?? []) as readonly { readonly [name: string]: string | null }[];
  return money.map(({ cost, currency, revenue }) => ({
    currency: currency ?? "",
    ...(cost == null ? {} : { cost }),
    ...(revenue == null ? {} : { revenue }),
  }));
}

/** What a reader must know before any figure. */
function warnings({ heldUntil, range, settledUntil, total }: PageData): string {
  const coverage = numberAt(total, "kpis.coverage");
  const said = [
    heldUntil === undefined
      ? ""
      : `The ledger ends at ${iso(heldUntil)}: what comes after is not in this report.`,
    settledUntil === undefined || settledUntil >= (heldUntil ?? Number.POSITIVE_INFINITY)
      ? ""
      : settledUntil <= range.from
        ? "No quarter of an hour of this range is closed yet: what is shared out by tenant is not known."
        : `What is shared out by tenant is known until ${iso(settledUntil)} and leaves out the time after it.`,
    coverage !== undefined && coverage < 0.95
      ? `${percent(1 - coverage)} of the GPU time was not observed; figures per hour and joule say nothing about it.`
      : "",
  ];
  return said
    .filter((text) => text !== "")
    .map((text) => `<p class="warning">${escapeHtml(text)}</p>`)
    .join("\n");
}

/** Whole days by their dates, the last one included; else instants. */
function rangeText({ from, to, zone }: PageData["range"]): string {
  const format = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "short" });
  const [first, end] = [format.format(from), format.format(to)];
  if (!first.endsWith("00:00") || !end.endsWith("00:00")) return `${first} to ${end}`;
  const last = format.format(to - 1).slice(0, 10);
  return first.startsWith(last) ? last : `${first.slice(0, 10)} to ${last}`;
}

function iso(at: number): string {
  return `${new Date(at).toISOString().slice(0, 16)}Z`;
}
