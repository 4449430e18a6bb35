// Which GPUs of a server do its prompts alone: then its others decode (gpu-role.ts).
import type { Nanos } from "../../model.ts";

/** Servers that are remembered at most. */
const serversMax = 256;

/** GPUs that prefill alone, by server. */
export class PrefillPlaces {
  /** Until when that is known of each, by server. */
  readonly #gpus = new Map<string, Map<string, Nanos>>();

  /** Notes whether a server does prompts alone on a GPU, as known at `at`. */
  note(server: string, gpu: string, isPromptsOnly: boolean, at: Nanos): void {
    const known = this.#gpus.get(server);
    if (!isPromptsOnly) {
      if (known?.delete(gpu) === true && known.size === 0) this.#gpus.delete(server);
      return;
    }
    if (known !== undefined) {
      known.set(gpu, at);
      return;
    }
    if (this.#gpus.size >= serversMax) this.#gpus.clear();
    this.#gpus.set(server, new Map([[gpu, at]]));
  }

  /** Whether other GPUs than this one do the prompts of a server, as known at `at` or after it. */
  isElsewhere(server: string, gpu: string, at: Nanos): boolean {
    const known = this.#gpus.get(server);
    if (known === undefined || known.has(gpu)) return false;
    for (const [other, until] of known) {
      if (until >= at) return true;
      known.delete(other);
    }
    return false;
  }
}
