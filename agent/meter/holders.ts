// Attribute sets of who holds a GPU, bounded: pods and jobs come and go by the thousand, and each would be a series for ever.
import type { Dimensions, GpuInfo, GpuInterval, Holder, Posting } from "../model.ts";
import { SetsOf } from "./attribute-sets.ts";

/** Holders kept apart at most; what comes after them counts under `other`. */
const holdersMax = 500;
const other: Dimensions = { "tokenwatt.holder.kind": "other", "tokenwatt.holder.name": "other" };

/** The sets by holder, the same object each time. */
export class HolderSets {
  readonly #sets = new Map<string, Dimensions>();
  readonly #ofProducts = new SetsOf<Dimensions>();

  /** The attributes of a holder. */
  of(holder: Holder): Dimensions {
    const key = holderKey(holder);
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    if (this.#sets.size >= holdersMax) return other;
    const set = dimensionsOf(holder);
    this.#sets.set(key, set);
    return set;
  }

  /** What a GPU's holders got in an interval. */
  postings({ holders = [] }: GpuInterval, info: GpuInfo | undefined): readonly Posting[] {
    const product = info?.name;
    return holders.flatMap(({ holder, millijoules, nanos }) => {
      const set = this.of(holder);
      const named = (): Dimensions => (product === undefined ? set : { ...set, "hw.model": product });
      const dimensions = this.#ofProducts.of(set, product ?? "", named);
      const time = { metric: "tokenwatt.holder.gpu_time", dimensions, amount: nanos };
      const energy = { metric: "tokenwatt.holder.energy", dimensions, amount: millijoules };
      return [time, energy].filter(({ amount }) => amount > 0);
    });
  }

  /** Makes room for another holder: this one is gone. */
  forget(key: string): void {
    this.#sets.delete(key);
  }
}

/** What makes two holders different ones. */
export function holderKey({ kind, name }: Holder): string {
  return `${kind} ${name}`;
}

/** The keys of all holders of an interval's GPUs. */
export function holderKeys(gpus: readonly GpuInterval[]): readonly string[] {
  return gpus.flatMap(({ holders = [] }) => holders.map(({ holder }) => holderKey(holder)));
}

function dimensionsOf({ account, container, kind, name, namespace, pod, user }: Holder): Dimensions {
  const named = {
    "tokenwatt.holder.kind": kind,
    "tokenwatt.holder.name": name,
    "k8s.namespace.name": namespace,
    "k8s.pod.name": pod,
    "k8s.container.name": container,
    "tokenwatt.holder.account": account,
    "tokenwatt.holder.user": user,
  };
  return Object.fromEntries(
    Object.entries(named).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  );
}
