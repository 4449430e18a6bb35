// What is to be said of one page's counters: each kind once, with how much of it there was.
import type { NoteKind, SourceNote } from "../../model.ts";

const HINTS: Readonly<Partial<Record<NoteKind, string>>> = {
  several:
    "read each process by an address of its own (per-pod endpoints), or let the server collect its workers' counters (PROMETHEUS_MULTIPROC_DIR)",
  refused: "look at the page: a counter of it cannot be one",
};
/** Kinds after which the counters stand for less than was made. */
const DOUBTFUL: ReadonlySet<NoteKind> = new Set(["held", "rebased", "refused", "several", "page_held"]);

/** The notes of one page. */
export class Notes {
  readonly #notes = new Map<NoteKind, { kind: NoteKind; amount: number; text: string; hint?: string }>();

  /** Says something of the page; the first text of a kind stands for all of it. */
  addNote(kind: NoteKind, amount: number, text: () => string): void {
    const known = this.#notes.get(kind);
    if (known !== undefined) {
      known.amount += amount;
      return;
    }
    const hint = HINTS[kind];
    this.#notes.set(kind, { kind, amount, text: text(), ...(hint === undefined ? {} : { hint }) });
  }

  get list(): readonly SourceNote[] {
    return [...this.#notes.values()];
  }

  get doubtful(): boolean {
    return [...this.#notes.keys()].some((kind) => DOUBTFUL.has(kind));
  }
}
