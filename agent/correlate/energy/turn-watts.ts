// What each of two servers draws above the floor while it has the GPU, from the driver's samples per process: power in the
// window of a sample over the shares of the two in it (METERING.md 4). It tells servers apart that are never alone.
// A driver that credits the mean since the last reading (values of one time for all processes, H100 with driver 580) says
// nothing of a single window: then nothing is learned here.
import type { Nanos } from "../../model.ts";

/** A driver's sample: the share of its window in which a process of a server ran. */
export interface WindowShare {
  readonly server: string;
  readonly at: Nanos;
  readonly ratio: number;
}

/** Length of a driver's window. */
export const windowNanos = 200_000_000;
/** What an observation leaves of the weight of those before it: about four minutes of two a second. */
const keptRatio = 0.998;
/** Samples that it takes. */
const samplesMin = 20;
/** How far each of two servers is usually off the mean of both: what is thought of them before any sample. */
const usualRatio = 0.35;
/** Shares nearer to each other are equal but for whole percents and chance. */
const apartRatioMin = 0.1;
/** Readings whose samples are of different windows, of those that have several; older ones fade. */
const [apartMin, apartFadeRatio] = [0.9, 0.99];
/** Pairs of servers remembered at most. */
const pairsMax = 16;

/** The watts of two servers, and how far off they may be over the mean of both. */
export interface KnownWatts {
  readonly watts: ReadonlyMap<string, number>;
  readonly error: number;
}

/** Faded sums over the samples of a pair: `both` the shares of the two together, `apart` the first less the second. */
interface Pair {
  readonly servers: readonly [string, string];
  samples: number;
  bothBoth: number;
  bothApart: number;
  apartApart: number;
  bothWatts: number;
  apartWatts: number;
  wattsWatts: number;
}

/** The watts by turns on one GPU. */
export class TurnWatts {
  readonly #pairs = new Map<string, Pair>();
  #several = 0;
  #apart = 0;

  /** Takes in the samples of one reading, as evidence of what a sample of this driver stands for. */
  observeReading(shares: readonly WindowShare[]): void {
    if (shares.length < 2) return;
    const isApart = new Set(shares.map(({ at }) => at)).size === shares.length;
    this.#several = this.#several * apartFadeRatio + 1;
    this.#apart = this.#apart * apartFadeRatio + (isApart ? 1 : 0);
  }

  /** Takes in the window of a sample in which only its server and `other` worked. */
  observe(share: WindowShare, other: string, otherRatio: number, watts: number): void {
    const pair = this.#pair(share.server, other);
    const both = share.ratio + otherRatio;
    const more = share.ratio - otherRatio;
    const apart = Math.abs(more) < apartRatioMin ? 0 : more * (pair.servers[0] === share.server ? 1 : -1);
    pair.samples = pair.samples * keptRatio + 1;
    pair.bothBoth = pair.bothBoth * keptRatio + both * both;
    pair.bothApart = pair.bothApart * keptRatio + both * apart;
    pair.apartApart = pair.apartApart * keptRatio + apart * apart;
    pair.bothWatts = pair.bothWatts * keptRatio + both * watts;
    pair.apartWatts = pair.apartWatts * keptRatio + apart * watts;
    pair.wattsWatts = pair.wattsWatts * keptRatio + watts * watts;
  }

  /** Returns the watts of two servers while each has the GPU; undefined while too little was seen of them. */
  watts(working: ReadonlySet<string>): KnownWatts | undefined {
    if (working.size !== 2 || this.#several === 0 || this.#apart < apartMin * this.#several) return undefined;
    const pair = this.#pairs.get([...working].sort().join("\n"));
    if (pair === undefined || pair.samples < samplesMin) return undefined;
    const { apartApart, apartWatts, bothApart, bothBoth, bothWatts, samples, servers, wattsWatts } = pair;
    const mean = bothWatts / bothBoth;
    if (!(mean > 0)) return undefined;
    // Least squares of watts = mean x both + half x apart, with a half of 0 +- usualRatio x mean before any sample.
    const variance = Math.max(0, wattsWatts - mean * bothWatts) / samples;
    const pull = variance / (usualRatio * mean) ** 2;
    const square = apartApart + pull - (bothApart * bothApart) / bothBoth;
    if (!(square > 0)) return undefined;
    const half = (apartWatts - (bothApart * bothWatts) / bothBoth) / square;
    const middle = (bothWatts - half * bothApart) / bothBoth;
    const [one, other] = servers;
    const watts = new Map([
      [one, Math.max(0, middle + half)],
      [other, Math.max(0, middle - half)],
    ]);
    return { watts, error: Math.sqrt(variance / square) / mean };
  }

  #pair(server: string, other: string): Pair {
    const servers = server < other ? ([server, other] as const) : ([other, server] as const);
    const key = servers.join("\n");
    let pair = this.#pairs.get(key);
    if (pair === undefined) {
      if (this.#pairs.size >= pairsMax) this.#pairs.clear();
      const sums = { bothBoth: 0, bothApart: 0, apartApart: 0, bothWatts: 0, apartWatts: 0, wattsWatts: 0 };
      pair = { servers, samples: 0, ...sums };
      this.#pairs.set(key, pair);
    }
    return pair;
  }
}
