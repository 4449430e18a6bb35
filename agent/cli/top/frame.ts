// One frame of the screen: a pure function of what hosts said, what was chosen and the terminal's size. The head says how the
// hosts are, the chosen view takes the middle, views that still fit stand below it, the last line says the keys.
import type { View, ViewCapacity } from "../../export/page/view.ts";
import type { GpuState } from "../../model.ts";
import { stateLooks, stateOrder } from "../../platform/state-colours.ts";
import { SHARE_FROM_COLUMNS } from "./columns.ts";
import type { Panel, PanelParts } from "./panels.ts";
import { panelOf, wrongOf } from "./panels.ts";
import type { Host } from "./rows.ts";
import { stateMark } from "./rows.ts";
import type { ScreenState, ViewName } from "./screen-state.ts";
import { views } from "./screen-state.ts";
import type { Line, Look } from "./text.ts";
import { columnsOf, piece, writeLine } from "./text.ts";
import { counted, duration, figure, money, number, percent, unit } from "./values.ts";

/** What a frame is drawn from. */
export interface FrameParts {
  readonly hosts: readonly Host[];
  readonly state: ScreenState;
  readonly columns: number;
  readonly rows: number;
  readonly look: Look;
  /** Said at the top of a demo. */
  readonly title?: string;
}

const LEAST = { columns: 40, rows: 8 };

/** The frame, a line for each of the terminal's rows but its last. */
export function drawFrame(parts: FrameParts): string {
  const { columns, look, rows, state } = parts;
  const height = rows - 1;
  const lines =
    columns < LEAST.columns || rows < LEAST.rows
      ? [[piece(`too small: ${columns}x${rows}, wanted ${LEAST.columns}x${LEAST.rows}`)]]
      : state.isHelp
        ? [...helpLines(look), [], footer(parts)]
        : screen(parts, height);
  const cut = lines.length > height ? [...lines.slice(0, height - 1), lines.at(-1) as Line] : lines;
  return cut.map((line) => writeLine(line, columns, look)).join("\n");
}

function screen(parts: FrameParts, height: number): readonly Line[] {
  const head = headLines(parts);
  const room = height - head.length - 1;
  const body = middle(parts, room);
  const blank = Array.from({ length: Math.max(0, room - body.length) }, (): Line => []);
  return [...head, ...body, ...blank, footer(parts)];
}

function headLines({ columns, hosts, look, title }: FrameParts): readonly Line[] {
  const lines: Line[] = title === undefined ? [] : [[piece(title, "strong")]];
  for (const host of hosts) {
    lines.push(hostLine(host, columns));
    const wrong = host.view === undefined ? undefined : wrongOf(host.view);
    if (wrong !== undefined) lines.push([piece(`  ${wrong.text}`, wrong.isFailure ? "bad" : "warn")]);
  }
  if (hosts.length === 1 && hosts[0]?.view !== undefined)
    lines.push(legendLine(hosts[0].view, look, columns));
  return [...lines, []];
}

/** Capacity used, where it is known from, and how old that is. */
function capacityWords(capacity: ViewCapacity | null | undefined): string {
  if (capacity === null || capacity === undefined) return "capacity not known";
  const age = capacity.age_seconds === null ? "" : ` ${duration(capacity.age_seconds)} ago`;
  // An agent of an earlier version says the most alone, or nothing.
  const [least, most] = [capacity.utilization_min ?? null, capacity.utilization_max ?? null];
  const limit = most === null || capacity.limit_seen === true ? "" : ", limit not seen";
  const used =
    most === null
      ? percent(capacity.utilization)
      : `${percent(least ?? capacity.utilization)} to ${percent(most)}`;
  // An agent of an earlier version told it of all servers or not at all.
  const { servers = 0, servers_known: known = servers } = capacity as Partial<ViewCapacity>;
  const of = known < servers ? ` of ${known} of ${counted(servers, "server")}` : "";
  return `${used} of capacity${of} (${capacity.source}${age}${limit})`;
}

function hostLine({ name, problem, view }: Host, columns: number): Line {
  if (view === undefined)
    return [
      piece(name, "strong"),
      piece(`  ${problem ?? "asked, no answer yet"}`, problem === undefined ? "quiet" : "bad"),
    ];
  const { capacity, currency, whole } = view;
  const facts = [
    counted(view.gpus.filter(({ parent }) => parent === null).length, "GPU"),
    ...(columns >= SHARE_FROM_COLUMNS
      ? [`${percent(whole.token_active_utilization)} token active, ${capacityWords(capacity)}`]
      : []),
    `${number(whole.tokens_per_second)} tok/s`,
    `${figure(whole.tokens_per_joule)} tok/J`,
    unit(whole.power_watts, " W"),
    ...(whole.cost_per_hour === null ? [] : [`${money(whole.cost_per_hour, currency)}/h`]),
    `up ${duration(view.uptime_seconds)}`,
  ];
  const lost = problem === undefined ? [] : [piece(`  ${problem}`, "bad")];
  return [piece(view.host, "strong"), piece(`  ${facts.join("  ")}`), ...lost];
}

/** The states with their shares of the last minute: legend and summary in one; where it does not fit, shorter. */
function legendLine({ whole }: View, look: Look, columns: number): Line {
  const seconds = Object.values(whole.state_seconds).reduce((sum, one) => sum + one, 0);
  const legend = (states: readonly GpuState[], gap: string, short: boolean): Line =>
    states.flatMap((state) => {
      const label = short ? stateLooks[state].label.replace("token ", "") : stateLooks[state].label;
      const share = seconds > 0 ? percent(whole.state_seconds[state] / seconds) : "-";
      return [piece(stateMark(state, look), state), piece(` ${label} ${share}${gap}`)];
    });
  const seen = stateOrder.filter((state) => whole.state_seconds[state] > 0);
  const lines = [legend(stateOrder, "  ", false), legend(seen, "  ", true), legend(seen, " ", true)];
  const fits = (line: Line): boolean => columnsOf(line.map(({ text }) => text).join("")) <= columns;
  return lines.find(fits) ?? (lines.at(-1) as Line);
}

/** The chosen view, and below it others that fit as a whole. */
function middle(parts: FrameParts, room: number): readonly Line[] {
  const { columns: width, hosts, look, state } = parts;
  const inner: PanelParts = { hosts, state, width, look };
  const main = panelLines(panelOf(state.view, inner), room, state.offset);
  const lines = [...main];
  if (state.view !== "GPUs" || state.filter !== "") return lines;
  for (const view of ["notes", "tenants", "quotas", "holders", "hour"] as const) {
    const panel = panelOf(view, inner);
    const left = room - lines.length - 2;
    if (panel.rows.length === 0 || left < Math.min(3, panel.rows.length) + panel.head.length) continue;
    lines.push([], [piece(TITLES[view] ?? view, "strong")], ...panelLines(panel, left, 0));
  }
  return lines;
}

const TITLES: Readonly<Partial<Record<ViewName, string>>> = {
  notes: "What is wrong, what is unsure, what is sent",
  tenants: "Tenants",
  quotas: "Quotas",
  holders: "Held by others",
  hour: "The last hour",
};

function panelLines({ empty, head, rows }: Panel, room: number, offset: number): readonly Line[] {
  if (rows.length === 0) return [[piece(empty, "quiet")]];
  const space = room - head.length;
  if (rows.length <= space) return [...head, ...rows];
  const first = Math.min(offset, rows.length - space + 1);
  const shown = rows.slice(first, first + space - 1);
  const below = rows.length - first - shown.length;
  const more = [first > 0 ? `${first} lines above` : "", below > 0 ? `${below} lines below` : ""];
  return [...head, ...shown, [piece(`${more.filter((one) => one !== "").join(", ")} (arrows)`, "quiet")]];
}

function footer({ columns, state }: FrameParts): Line {
  if (state.isTyping)
    return [
      piece("filter: ", "accent"),
      piece(`${state.filter}_`),
      piece("  enter keeps it, escape drops it", "quiet"),
    ];
  const tabs = views.flatMap(
    (view, place): Line => [
      piece(`${place + 1}`, "accent"),
      piece(` ${view} `, view === state.view ? "head" : undefined),
      piece(" "),
    ],
  );
  const keys = columns >= 100 ? "s sort  r reverse  / filter  p pause  h help  q quit" : "s / p h q";
  const filter = state.filter === "" ? [] : [piece(`/${state.filter} `, "warn")];
  return [...(state.isPaused ? [piece("PAUSED ", "bad")] : []), ...filter, ...tabs, piece(keys, "quiet")];
}

function helpLines(look: Look): readonly Line[] {
  const keys = [
    [
      "1-7, tab, left, right",
      "another view: GPUs with their servers, servers, tenants, quotas, other holders, notes, hour",
    ],
    ["s, S", "sort by the next column, the one before"],
    ["r", "the other way round"],
    ["/", "show only rows that contain a text; escape shows all again"],
    ["up, down, page keys, j, k", "other rows"],
    ["p, space", "hold still; what comes meanwhile is shown after"],
    ["h, ?", "this"],
    ["q, ctrl-c", "end"],
  ];
  const states = stateOrder.map(
    (state): Line => [
      piece(`  ${stateMark(state, look)} ${stateLooks[state].label.padEnd(14)}`, state),
      piece(stateLooks[state].meaning),
    ],
  );
  return [
    [piece("Keys", "strong")],
    ...keys.map(([key = "", does = ""]): Line => [piece(`  ${key.padEnd(28)}`, "accent"), piece(does)]),
    [],
    [piece("Where a second of a GPU goes", "strong")],
    ...states,
    [],
    [
      piece(
        "Rates are of the last minute of settled seconds. - is not known, never 0. active = token-active share of held time;",
        "quiet",
      ),
    ],
    [piece("it says that somebody is served, not how many: the share of capacity does.", "quiet")],
  ];
}
