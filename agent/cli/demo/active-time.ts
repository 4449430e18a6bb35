// How long a recorded server had at least one request in execution: the union of its requests' times, which run from
// `t - e2e_s` to `t`. An engine that serves tokenwatt.v1 knows this of itself.
import type { JsonLine } from "../../recording/files.ts";

/** The busy time of one server. */
export class ActiveTime {
  readonly #spans: readonly (readonly [from: number, to: number])[];

  constructor(lines: readonly JsonLine[]) {
    const merged: [number, number][] = [];
    const requests = lines.filter((line) => line["event"] === "req");
    const all = requests.map((line): [number, number] => {
      const to = Number(line["t"]);
      return [Math.round((to - Number(line["e2e_s"])) * 1e6), Math.round(to * 1e6)];
    });
    for (const [from, to] of all.sort((a, b) => a[0] - b[0])) {
      const last = merged.at(-1);
      if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
      else merged.push([from, to]);
    }
    this.#spans = merged;
  }

  /** Microseconds of it up to a recorded instant. */
  until(micros: number): number {
    let sum = 0;
    for (const [from, to] of this.#spans) if (from < micros) sum += Math.min(to, micros) - from;
    return sum;
  }
}
