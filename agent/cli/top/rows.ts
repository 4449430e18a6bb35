// What hosts said, as rows of the screen's views: whose they are, which of them a filter leaves, and how states are drawn.
import type { View, ViewGpu, ViewHistory } from "../../export/page/view.ts";
import { stateLetters } from "../../export/page/view.ts";
import type { GpuState } from "../../model.ts";
import { stateLooks, stateOrder } from "../../platform/state-colours.ts";
import type { Line, Look, Piece } from "./text.ts";
import { piece } from "./text.ts";

/** A host that is looked at. */
export interface Host {
  /** As it was named on the command line. */
  readonly name: string;
  readonly view?: View;
  readonly history?: ViewHistory;
  /** Why nothing comes from it now. */
  readonly problem?: string;
}

/** A row with the host it is of. */
export interface Of<Row> {
  readonly host: string;
  readonly currency: string | null;
  readonly row: Row;
}

/** Who holds GPUs beside metered servers. */
export interface HolderRow {
  readonly kind: string;
  readonly name: string;
  readonly gpus: readonly number[];
  /** GPUs held, in shares. */
  readonly share: number;
  readonly watts: number;
}

/** Rows of all hosts that contain the filter. */
export function rowsOf<Row>(
  hosts: readonly Host[],
  filter: string,
  take: (view: View) => readonly Row[],
  textOf: (row: Row) => string,
): readonly Of<Row>[] {
  const wanted = filter.toLowerCase();
  return hosts.flatMap(({ name, view }) => {
    if (view === undefined) return [];
    const host = hosts.length > 1 ? name : view.host;
    return take(view)
      .filter((row) => `${host} ${textOf(row)}`.toLowerCase().includes(wanted))
      .map((row) => ({ host, currency: view.currency, row }));
  });
}

/** What a filter looks for in a GPU: its servers and holders too. */
export function gpuText(gpu: ViewGpu): string {
  const held = gpu.held_by.map(({ kind, name }) => `${kind} ${name}`).join(" ");
  return `${gpu.index} ${gpu.name} ${gpu.uuid} ${gpu.mig_profile ?? ""} ${gpu.state ?? ""} ${held}`;
}

/** Everything unmetered that holds a GPU of a host. */
export function holdersOf({ gpus }: View): readonly HolderRow[] {
  const all = gpus.flatMap(({ held_by: held, index }) =>
    held.filter(({ kind }) => kind !== "server").map((one) => ({ ...one, index })),
  );
  return [...Map.groupBy(all, ({ kind, name }) => `${kind} ${name}`).values()].map((group) => ({
    kind: group[0]?.kind ?? "",
    name: group[0]?.name ?? "",
    gpus: [...new Set(group.map(({ index }) => index))].sort((a, b) => a - b),
    share: group.reduce((sum, { share }) => sum + share, 0),
    watts: group.reduce((sum, { share, watts }) => sum + share * (watts ?? 0), 0),
  }));
}

/** One cell for each of the last seconds, in the colour or by the letter of its state. */
export function stateBar(letters: string, width: number, look: Look): Line {
  const pieces: Piece[] = [];
  for (const letter of letters.slice(-width).padStart(width)) {
    const state = stateOrder.find((one) => stateLetters[one] === letter);
    pieces.push(state === undefined ? piece(" ") : piece(stateMark(state, look), state));
  }
  return merged(pieces);
}

/** The character that tells a state: without colours each has its own. */
export function stateMark(state: GpuState, { colours, unicode }: Look): string {
  if (!unicode)
    return { ...stateLetters, token_active: "A", stalled: "S", free: ".", unobserved: "?" }[state];
  return colours && state !== "free" && state !== "unobserved" ? "█" : stateLooks[state].glyph;
}

/** Neighbours of one style as one piece. */
function merged(pieces: readonly Piece[]): Line {
  const all: Piece[] = [];
  for (const one of pieces) {
    const last = all.at(-1);
    if (last !== undefined && last.style === one.style)
      all[all.length - 1] = piece(last.text + one.text, one.style);
    else all.push(one);
  }
  return all;
}
