// Lines of the log while a screen has the terminal: kept, and written when the terminal is given back. Where the log goes
// elsewhere nothing is held.

const LINES_MAX = 200;

/** Writes lines, or keeps the last of them. */
export class HeldLines {
  readonly #write: (line: string) => void;
  #held: string[] | undefined;
  #dropped = 0;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** From now on lines are kept. */
  hold(): void {
    this.#held ??= [];
  }

  /** Takes a line with its end. */
  readonly take = (line: string): void => {
    if (this.#held === undefined) {
      this.#write(line);
      return;
    }
    this.#held.push(line);
    if (this.#held.length <= LINES_MAX) return;
    this.#held.shift();
    this.#dropped++;
  };

  /** Writes what was kept; from now on lines are written as they come. */
  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    if (this.#dropped > 0) this.#write(`${this.#dropped} earlier log lines were not kept\n`);
    this.#dropped = 0;
    for (const line of held) this.#write(line);
  }
}
