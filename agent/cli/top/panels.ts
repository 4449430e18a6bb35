// The views of the screen, each as its lines: what is in them for any width, before rows are passed over or left out.
import type { View, ViewGpu, ViewQuota, ViewServer } from "../../export/page/view.ts";
import { stateLetters } from "../../export/page/view.ts";
import type { GpuState } from "../../model.ts";
import { stateOrder } from "../../platform/state-colours.ts";
import {
  gpuColumns,
  holderColumns,
  hostColumn,
  quotaColumns,
  serverColumns,
  tenantColumns,
} from "./columns.ts";
import type { Column } from "./grid.ts";
import { headLine, lay, rowLine, sortRows } from "./grid.ts";
import type { Host, Of } from "./rows.ts";
import { gpuText, holdersOf, rowsOf, stateBar } from "./rows.ts";
import type { ScreenState, ViewName } from "./screen-state.ts";
import type { Line, Look } from "./text.ts";
import { piece, setTo } from "./text.ts";
import { counted, duration, figure, money, number, percent } from "./values.ts";

/** A view's head and its rows; a row may take several lines. */
export interface Panel {
  readonly head: readonly Line[];
  readonly rows: readonly Line[];
  /** What is said where there is no row. */
  readonly empty: string;
}

/** What panels are made from. */
export interface PanelParts {
  readonly hosts: readonly Host[];
  readonly state: ScreenState;
  readonly width: number;
  readonly look: Look;
}

/** The columns a view can be sorted by, in their order. */
export function headsOf(view: ViewName): readonly string[] {
  const all = {
    ...{ servers: serverColumns(() => undefined), tenants: tenantColumns },
    ...{ quotas: quotaColumns, holders: holderColumns },
  };
  const columns =
    view === "GPUs"
      ? gpuColumns({ colours: false, unicode: false }, Number.POSITIVE_INFINITY)
      : view === "notes" || view === "hour"
        ? []
        : (all[view] as readonly Column<never>[]);
  return columns.flatMap(({ by, head }) => (by === undefined ? [] : [head]));
}

/** One view. */
export function panelOf(view: ViewName, parts: PanelParts): Panel {
  return PANELS[view](parts);
}

const PANELS: Readonly<Record<ViewName, (parts: PanelParts) => Panel>> = {
  GPUs: gpuPanel,
  servers: (parts) => {
    const rows = rowsOf(parts.hosts, parts.state.filter, ({ servers }) => servers, serverText);
    return table(
      parts,
      "servers",
      serverColumns(indexIn(parts.hosts)),
      rows,
      "no server is configured, and none was found",
    );
  },
  tenants: (parts) => {
    const rows = rowsOf(
      parts.hosts,
      parts.state.filter,
      ({ tenants }) => tenants ?? [],
      ({ tenant }) => tenant,
    );
    const hidden = parts.hosts.some(({ view }) => view?.tenants === null);
    return table(
      parts,
      "tenants",
      tenantColumns,
      rows,
      hidden
        ? "tenants are not shown here (export.prometheus.tenants)"
        : "no gateway and no label names a tenant",
    );
  },
  quotas: (parts) => {
    const { hosts, state } = parts;
    const text = ({ key, name, state: now }: ViewQuota): string =>
      `${name} ${Object.values(key).join(" ")} ${now}`;
    const rows = rowsOf(hosts, state.filter, ({ quotas }) => quotas ?? [], text);
    return table(
      parts,
      "quotas",
      quotaColumns,
      rows,
      "no policy is configured, or its quotas are of tenants that are not shown here",
    );
  },
  holders: (parts) => {
    const rows = rowsOf(parts.hosts, parts.state.filter, holdersOf, ({ kind, name }) => `${kind} ${name}`);
    return table(parts, "holders", holderColumns, rows, "nothing but metered servers holds a GPU");
  },
  notes: notesPanel,
  hour: hourPanel,
};

function table<Row>(
  { hosts, state, width }: PanelParts,
  view: ViewName,
  columns: readonly Column<Of<Row>>[],
  rows: readonly Of<Row>[],
  empty: string,
): Panel {
  const laid = lay([...hostColumn<Row>(hosts.length > 1), ...columns], width);
  const chosen = state.sorted[view];
  const column = columns.find(({ head }) => head === chosen?.head) ?? columns[0];
  const sorted = sortRows(rows, column?.by, chosen?.down ?? false);
  return {
    head: [headLine(laid, column?.head, chosen?.down ?? false)],
    rows: sorted.map((row) => rowLine(laid, row)),
    empty: state.filter === "" ? empty : `nothing contains "${state.filter}"`,
  };
}

/** GPUs, under each the servers on it; whoever else holds it is named where no server does. */
function gpuPanel(parts: PanelParts): Panel {
  const { hosts, look, state, width } = parts;
  const rows = rowsOf(hosts, state.filter, ({ gpus }) => gpus, gpuText);
  const columns = gpuColumns(look, width);
  const laid = lay([...hostColumn<ViewGpu>(hosts.length > 1), ...columns], width);
  const chosen = state.sorted.GPUs;
  const column = columns.find(({ head }) => head === chosen?.head) ?? columns[0];
  const lines = sortRows(rows, column?.by, chosen?.down ?? false).flatMap((row) => [
    rowLine(laid, row),
    ...under(row, hosts, look, width),
  ]);
  return {
    head: [headLine(laid, column?.head, chosen?.down ?? false)],
    rows: lines,
    empty: state.filter === "" ? "no GPU is read" : `nothing contains "${state.filter}"`,
  };
}

function under(
  { currency, host, row }: Of<ViewGpu>,
  hosts: readonly Host[],
  look: Look,
  width: number,
): readonly Line[] {
  const branch = look.unicode ? "    └ " : "    - ";
  if (row.problem !== null) return [[piece(branch, "quiet"), piece(row.problem, "bad")]];
  const { servers = [] } = hosts.find(({ name, view }) => name === host || view?.host === host)?.view ?? {};
  const wide = width >= 120;
  return row.held_by.map(({ kind, name, share, watts }) => {
    const server = kind === "server" ? servers.find(({ id }) => id === name) : undefined;
    const part = `${percent(share)} of it`;
    if (server === undefined)
      return [
        piece(branch, "quiet"),
        piece(`${kind} ${name}`, "other"),
        piece(`  ${part}, ${number(watts)} W`, "quiet"),
      ];
    const model = server.models[0] ?? server.type;
    const facts = [
      `run ${number(server.running)} wait ${number(server.waiting)}`,
      `${number(server.tokens_per_second)} tok/s`,
      part,
      ...(server.cost_per_hour === null ? [] : [`${money(server.cost_per_hour, currency)}/h`]),
      ...(wide
        ? [
            `${figure(server.tokens_per_joule)} tok/J`,
            `output ${number(server.output_tokens_per_second)} tok/s`,
          ]
        : []),
    ];
    return [
      piece(branch, "quiet"),
      piece(name, server.ok === false ? "bad" : "accent"),
      piece(name.endsWith(model) ? "  " : `  ${model}  `, "quiet"),
      piece(facts.join(wide ? "   " : "  ")),
    ];
  });
}

/** What is wrong, what rests on an assumption, where telemetry goes. */
function notesPanel({ hosts, state, width }: PanelParts): Panel {
  const wanted = state.filter.toLowerCase();
  const rows = hosts.flatMap(({ name, problem, view }) => {
    const where = hosts.length > 1 ? `${name}: ` : "";
    const lost: readonly Line[] =
      problem === undefined ? [] : [[piece("failure ", "bad"), piece(`${where}${problem}`)]];
    if (view === undefined) return lost;
    const wrong = view.advice.flatMap((one): readonly Line[] => [
      [
        piece(one.verdict === "fail" ? "failure " : "warning ", one.verdict === "fail" ? "bad" : "warn"),
        piece(`${where}${one.subject === null ? "" : `${one.subject}: `}`, "strong"),
        piece(one.seen),
      ],
      ...wrapped(one.remedy ?? "", width - 8).map((text): Line => [piece(`        ${text}`, "quiet")]),
    ]);
    const unsure = view.uncertain.map(
      ({ gpus, says, server, share }): Line => [
        piece("unsure  ", "accent"),
        piece(
          `${where}${percent(share)} of GPU ${gpus.join(", ")}${server === null ? "" : `, ${server}`}: ${says}`,
        ),
      ],
    );
    const out = view.destinations.map(
      (one): Line => [
        piece("sent    ", one.last_error === null ? "good" : "warn"),
        piece(
          `${where}${number(one.sent_points)} points to ${one.name}, ${one.unsent_seconds === 0 ? "nothing waits" : `${duration(one.unsent_seconds)} wait`}${one.last_error === null ? "" : `: ${one.last_error}`}`,
        ),
      ],
    );
    return [...lost, ...wrong, ...unsure, ...out];
  });
  const kept = rows.filter((row) =>
    row
      .map(({ text }) => text)
      .join("")
      .toLowerCase()
      .includes(wanted),
  );
  return {
    head: [],
    rows: kept,
    empty: "nothing is wrong that the agent itself can tell; `tokenwatt doctor` looks from outside",
  };
}

/** States of the last hour by GPU, and how fast tokens came. */
function hourPanel({ hosts, look, state, width }: PanelParts): Panel {
  const cells = Math.max(20, Math.min(119, width - 32));
  const rows = hosts.flatMap(({ history, name }): readonly Line[] => {
    if (history === undefined) return [];
    const where = hosts.length > 1 ? `${name} ` : "";
    const gpus = history.gpus.filter((gpu) =>
      `${name} ${gpu.index} ${gpu.name}`.toLowerCase().includes(state.filter.toLowerCase()),
    );
    return [
      ...gpus.map((gpu): Line => {
        const seen = gpu.cells.filter((cell) => cell.length > 0);
        const active =
          seen.length === 0 ? null : seen.reduce((sum, [share = 0]) => sum + share, 0) / seen.length / 100;
        const label = `${where}${gpu.index} ${gpu.name.replace(/^NVIDIA /, "")}`;
        return [
          ...setTo([piece(label)], 22),
          piece("  "),
          ...stateBar(squeezed(gpu.cells, cells), cells, look),
          piece(`  ${percent(active).padStart(4)}`),
        ];
      }),
      [
        ...setTo([piece(`${where}tok/s`, "strong")], 22),
        piece("  "),
        piece(spark(history.tokens_per_second, cells, look), "token_active"),
      ],
      [
        ...setTo([piece(`${where}tok/J`, "strong")], 22),
        piece("  "),
        piece(spark(history.tokens_per_joule, cells, look), "accent"),
      ],
    ];
  });
  const head = [piece(`${"GPU".padEnd(22)}  last hour, the state that most of each moment was in`, "quiet")];
  return { head: [head], rows, empty: "nothing is known of the last hour yet" };
}

/** The state most of each stretch was in, by its letter. */
function squeezed(cells: readonly (readonly number[])[], width: number): string {
  return Array.from({ length: width }, (_, at) => {
    const part = cells.slice(
      Math.floor((at * cells.length) / width),
      Math.max(1, Math.floor(((at + 1) * cells.length) / width)),
    );
    const sums = stateOrder.map((_state, place) => part.reduce((sum, cell) => sum + (cell[place] ?? 0), 0));
    const most = Math.max(...sums);
    return most === 0 ? " " : stateLetters[stateOrder[sums.indexOf(most)] as GpuState];
  }).join("");
}

const SPARKS = "▁▂▃▄▅▆▇█";
const ASCII_SPARKS = "_.-=+*#@";

function spark(values: readonly (number | null)[], width: number, { unicode }: Look): string {
  const most = Math.max(...values.map((value) => value ?? 0), 1e-9);
  const marks = unicode ? SPARKS : ASCII_SPARKS;
  return Array.from({ length: width }, (_, at) => {
    const value = values[Math.floor(((at + 0.5) * values.length) / width)];
    if (value === null || value === undefined) return " ";
    return marks[Math.min(7, Math.floor((8 * value) / most))] ?? " ";
  }).join("");
}

function wrapped(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + word.length + 1 > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return text === "" ? [] : lines;
}

function serverText({ id, models, type }: ViewServer): string {
  return `${id} ${type} ${models.join(" ")}`;
}

function indexIn(hosts: readonly Host[]): (uuid: string) => number | undefined {
  const known = new Map(
    hosts.flatMap(({ view }) => (view?.gpus ?? []).map(({ index, uuid }) => [uuid, index] as const)),
  );
  return (uuid) => known.get(uuid);
}

/** How much is wrong, in a word for the head of the screen. */
export function wrongOf({
  advice,
}: View): { readonly text: string; readonly isFailure: boolean } | undefined {
  if (advice.length === 0) return undefined;
  const failures = advice.filter(({ verdict }) => verdict === "fail").length;
  const warnings = advice.length - failures;
  const counts = [
    failures > 0 ? counted(failures, "failure") : "",
    warnings > 0 ? counted(warnings, "warning") : "",
  ];
  const first = advice[0];
  const text = `${counts.filter((one) => one !== "").join(", ")}: ${first?.subject === null ? "" : `${first?.subject}: `}${first?.seen}`;
  return { text, isFailure: failures > 0 };
}
