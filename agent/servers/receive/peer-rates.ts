// How many messages each caller of a receiver may send: a bucket per caller, and one for all of them together.
// Without an identity a caller is an address, an IPv6 one by its first 64 bits, which is what one host is given (RFC 6177). On this host, where
// all share an address, a caller is a connection: a busy gateway takes nothing from the others.

import type { Nanos } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";

const PEERS_MAX = 10_000;
/** All callers together may send this many times the rate of one. */
const CALLERS = 8;
/** Connections of one caller together this many times. */
const CONNECTIONS = 6;

interface Bucket {
  tokens: number;
  at: Nanos;
}

/** Token buckets, full at first, that hold one second's worth. */
export class PeerRates {
  readonly #perSecond: number;
  readonly #clock: Pick<Clock, "now">;
  readonly #all: Bucket;
  /** Used longest ago first. */
  readonly #peers = new Map<string, Bucket>();

  constructor(perSecond: number, clock: Pick<Clock, "now">) {
    this.#perSecond = perSecond;
    this.#clock = clock;
    this.#all = { tokens: perSecond * CALLERS, at: clock.now() };
  }

  /** Takes a message of `caller` over its connection `peer` in: 0, or the nanoseconds until one more is allowed. */
  take(peer: string, caller: string = peer): Nanos {
    const now = this.#clock.now();
    const buckets: [Bucket, number][] = [
      [this.#bucket(peer, this.#perSecond, now), this.#perSecond],
      [this.#all, this.#perSecond * CALLERS],
    ];
    if (caller !== peer) {
      const most = this.#perSecond * CONNECTIONS;
      buckets.push([this.#bucket(caller, most, now), most]);
    }
    const wait = Math.max(...buckets.map(([bucket, perSecond]) => fill(bucket, now, perSecond)));
    if (wait === 0) for (const [bucket] of buckets) bucket.tokens--;
    return wait;
  }

  #bucket(key: string, perSecond: number, now: Nanos): Bucket {
    const own = this.#peers.get(key) ?? { tokens: perSecond, at: now };
    this.#peers.delete(key);
    this.#peers.set(key, own);
    const [oldest] = this.#peers.size > PEERS_MAX ? this.#peers.keys() : [];
    if (oldest !== undefined) this.#peers.delete(oldest);
    return own;
  }

  /** Callers remembered now. */
  get size(): number {
    return this.#peers.size;
  }
}

/** Adds what came since; returns how long it lasts until there is one. */
function fill(bucket: Bucket, now: Nanos, perSecond: number): Nanos {
  bucket.tokens = Math.min(perSecond, bucket.tokens + ((now - bucket.at) / 1e9) * perSecond);
  bucket.at = now;
  return bucket.tokens >= 1 ? 0 : Math.ceil(((1 - bucket.tokens) / perSecond) * 1e9);
}

/** Whom a connection belongs to, from what gRPC calls its peer: `address:port`, without brackets for IPv6. */
export function peerOf(peer: string): string {
  const colon = peer.lastIndexOf(":");
  if (colon === -1) return peer;
  const address = peer.slice(0, colon).replace(/^::ffff:(?=\d+\.)/i, "");
  if (address === "::1" || address.startsWith("127.")) return peer;
  return address.includes(":") ? network(address) : address;
}

/** The first four groups of an IPv6 address. */
function network(address: string): string {
  const [head = "", tail] = (address.split("%")[0] ?? "").split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const last = tail === "" ? [] : tail.split(":");
    while (groups.length + last.length < 8) groups.push("0");
    groups.push(...last);
  }
  return `${groups.slice(0, 4).join(":")}::/64`;
}
