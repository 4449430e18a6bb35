// The hosts that are looked at, and what each said last.
import type { Clock } from "../../platform/clock.ts";
import type { Said, Target } from "./attach.ts";
import { followHost } from "./attach.ts";
import type { Host } from "./rows.ts";

/** Holds what hosts said. */
export class Hosts {
  readonly #hosts: Map<string, Host>;
  readonly #changed = new Set<() => void>();

  constructor(names: readonly string[]) {
    this.#hosts = new Map(names.map((name) => [name, { name }]));
  }

  /** All of them as they are now. */
  readonly hosts = (): readonly Host[] => [...this.#hosts.values()];

  /** Calls whenever one of them said something, until it is cancelled. */
  readonly onChange = (changed: () => void): (() => void) => {
    this.#changed.add(changed);
    return () => this.#changed.delete(changed);
  };

  /** Takes what a host said. */
  hear(name: string, said: Said): void {
    const { problem: _, ...before } = this.#hosts.get(name) ?? { name };
    if (said.type === "problem") this.#hosts.set(name, { ...before, problem: said.text });
    else if (said.type === "view") this.#hosts.set(name, { ...before, view: said });
    else this.#hosts.set(name, { ...before, history: said });
    for (const changed of [...this.#changed]) changed();
  }

  /** Follows every target under its name until the signal. */
  async follow(targets: ReadonlyMap<string, Target>, clock: Clock, signal: AbortSignal): Promise<void> {
    await Promise.all(
      [...targets].map(([name, target]) =>
        followHost(target, clock, signal, (said) => this.hear(name, said)),
      ),
    );
  }
}
