// The work of the servers of a shared GPU as one observation of a fit: two columns for each server, in an order that stays
// while they are the same servers.

/** Prompt tokens and decode steps of a server. */
export type Work = readonly [prompt: number, steps: number];

/** Columns of a server. */
export const inputs = 2;
/** Servers fitted at once at most: unknowns grow with them. */
const serversMax = 4;

/** Who has which columns. */
export class WorkColumns {
  #servers: readonly string[] = [];
  /** What was filled in last. */
  readonly amounts = new Float64Array(inputs * serversMax);

  get servers(): readonly string[] {
    return this.#servers;
  }

  /** How many columns are in use. */
  get size(): number {
    return inputs * this.#servers.length;
  }

  /** First column of a server; below 0 where it has none. */
  placeOf(server: string): number {
    return inputs * this.#servers.indexOf(server);
  }

  /** Gives the servers columns, unless they have them already or are too many. */
  begin(work: ReadonlyMap<string, Work>): "same" | "others" | "too many" {
    if (work.size > serversMax) return "too many";
    if (this.#isOf(work)) return "same";
    this.#servers = [...work.keys()].sort();
    return "others";
  }

  #isOf(work: ReadonlyMap<string, Work>): boolean {
    if (work.size !== this.#servers.length) return false;
    for (const server of this.#servers) if (!work.has(server)) return false;
    return true;
  }

  /** Fills in what each server did; returns how many of them worked. */
  fill(work: ReadonlyMap<string, Work>): number {
    let worked = 0;
    for (let index = 0; index < this.#servers.length; index++) {
      const [prompt, steps] = work.get(this.#servers[index] as string) ?? [0, 0];
      this.amounts[inputs * index] = prompt;
      this.amounts[inputs * index + 1] = steps;
      if (prompt + steps > 0) worked++;
    }
    return worked;
  }
}
