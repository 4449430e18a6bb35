// The newest requests in memory, so that a destination that is up rarely reads the disk. None is copied: they lie in the
// buffers they were written into, and those are written over by the next beat only when every destination has them.
import type { Lease, SpoolEntry } from "./spool.ts";

/** Holds requests by sequence, in at most `bytesMax` bytes. */
export class RequestCache {
  readonly #bytesMax: number;
  readonly #held = new Map<number, { readonly request: Uint8Array; readonly lease: Lease }>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Holds a request that may be held; not when there is no room for it. */
  keep(sequence: number, { bytes, lease }: Pick<SpoolEntry, "bytes" | "lease">): void {
    if (lease === undefined || this.#bytes + bytes.length > this.#bytesMax) return;
    lease.isHeld = true;
    this.#held.set(sequence, { request: bytes, lease });
    this.#bytes += bytes.length;
  }

  /** A request as it was kept. Its bytes hold until the sequence is recycled. */
  get(sequence: number): Uint8Array | undefined {
    return this.#held.get(sequence)?.request;
  }

  /** The requests up to this sequence are not read any more: later ones may take their place. */
  recycle(sequence: number): void {
    for (const [one, { lease }] of this.#held) {
      if (one > sequence) continue;
      lease.isHeld = false;
      this.#remove(one);
    }
  }

  /** The requests up to this sequence were given up; one that is being sent keeps its bytes, so none is written over. */
  forget(sequence: number): void {
    for (const one of this.#held.keys()) if (one <= sequence) this.#remove(one);
  }

  /** The requests after this sequence were never stored: others will have their numbers. */
  drop(sequence: number): void {
    for (const [one, { lease }] of this.#held) {
      if (one <= sequence) continue;
      lease.isHeld = false;
      this.#remove(one);
    }
  }

  #remove(sequence: number): void {
    this.#bytes -= this.#held.get(sequence)?.request.length ?? 0;
    this.#held.delete(sequence);
  }
}
