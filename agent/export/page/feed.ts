// What people who look are sent: one snapshot as JSON, made once for all of them and at most once a beat, and only while
// somebody looks. A stream carries the snapshot every beat and the last hour when a cell of it is complete.
import type { Cancel, Clock } from "../../platform/clock.ts";
import { every } from "../../platform/clock.ts";
import type { Page } from "../prometheus.ts";
import type { View, ViewHistory } from "./view.ts";

/** What a feed asks the agent. */
export interface FeedOptions {
  readonly clock: Clock;
  /** Time between snapshots on the agent's clock. */
  readonly beatMs: number;
  readonly view: () => View;
  readonly history: () => ViewHistory;
  /** Number of the newest cell of the history: it is made again when this changes. */
  readonly cell: () => number;
}

interface WrittenHistory {
  readonly cell: number;
  readonly json: string;
  readonly message: Buffer;
}

/** Gets each message of a stream, written out. */
export type Looker = (message: Buffer) => void;

/** The snapshots of one agent. */
export class Feed {
  readonly #options: FeedOptions;
  readonly #lookers = new Set<Looker>();
  #cancel: Cancel | undefined;
  #page: Page | undefined;
  #pageUntil = 0;
  #view: Buffer | undefined;
  #history: WrittenHistory | undefined;

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  /** The snapshot and the last hour as one JSON object; the same object until the beat is over. */
  page(): Page {
    const { beatMs, clock } = this.#options;
    const now = clock.now();
    if (this.#page === undefined || now >= this.#pageUntil) {
      const { history, view } = this.#texts();
      const text = `{"view":${view},"history":${history}}\n`;
      this.#page = { type: "application/json; charset=utf-8", bytes: Buffer.from(text) };
      this.#pageUntil = now + beatMs * 1e6;
    }
    return this.#page;
  }

  /** How many look now. */
  get lookers(): number {
    return this.#lookers.size;
  }

  /** Sends a looker the last hour and the snapshot now, and every one that follows, until it is cancelled. */
  watch(looker: Looker): Cancel {
    const { beatMs, clock } = this.#options;
    const { cell, view } = this.#options;
    this.#view ??= message("view", JSON.stringify(view()));
    looker(this.#historyNow(cell()).message);
    looker(this.#view);
    this.#lookers.add(looker);
    this.#cancel ??= every(clock, beatMs, () => this.#beat());
    return () => {
      this.#lookers.delete(looker);
      if (this.#lookers.size > 0) return;
      this.#cancel?.();
      this.#cancel = undefined;
      this.#view = undefined;
      this.#history = undefined;
    };
  }

  #beat(): void {
    const before = this.#history;
    const history = this.#historyNow(this.#options.cell());
    this.#view = message("view", JSON.stringify(this.#options.view()));
    for (const looker of [...this.#lookers]) {
      if (history !== before) looker(history.message);
      looker(this.#view);
    }
  }

  #texts(): { readonly view: string; readonly history: string } {
    return {
      view: JSON.stringify(this.#options.view()),
      history: this.#historyNow(this.#options.cell()).json,
    };
  }

  #historyNow(cell: number): WrittenHistory {
    if (this.#history?.cell === cell) return this.#history;
    const json = JSON.stringify(this.#options.history());
    this.#history = { cell, json, message: message("history", json) };
    return this.#history;
  }
}

function message(event: string, json: string): Buffer {
  return Buffer.from(`event: ${event}\ndata: ${json}\n\n`);
}
