// Copies of the newest requests, so that a destination that is up rarely reads the disk.
// Megabytes that are allocated with each beat outlive the young generation and pile up until a full collection:
// the copies of requests that every destination has are written over by the next ones.

/** Keeps requests by sequence, in at most `bytesMax` bytes, free buffers included. */
export class RequestCache {
  readonly #bytesMax: number;
  readonly #held = new Map<number, { readonly buffer: Buffer; readonly request: Buffer }>();
  #free: Buffer[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Keeps a copy; not when there is no room for it. */
  keep(sequence: number, request: Uint8Array): void {
    const buffer = this.#take(request.length);
    if (buffer === undefined) return;
    buffer.set(request);
    this.#held.set(sequence, { buffer, request: buffer.subarray(0, request.length) });
  }

  /** A request as it was kept. Its bytes hold until the sequence is recycled. */
  get(sequence: number): Uint8Array | undefined {
    return this.#held.get(sequence)?.request;
  }

  /** The requests up to this sequence are not read any more: later ones may take their place. */
  recycle(sequence: number): void {
    for (const [one, { buffer }] of this.#held) {
      if (one > sequence) continue;
      this.#held.delete(one);
      // One is enough for destinations that keep up: those that were needed at a start would stay for good.
      if (this.#free.length === 0) this.#free.push(buffer);
      else this.#bytes -= buffer.length;
    }
  }

  /** The requests up to this sequence were given up; one that is being sent keeps its bytes, so none is written over. */
  forget(sequence: number): void {
    for (const [one, { buffer }] of this.#held) {
      if (one > sequence) continue;
      this.#held.delete(one);
      this.#bytes -= buffer.length;
    }
  }

  /** The requests after this sequence were never stored: others will have their numbers. */
  drop(sequence: number): void {
    for (const [one, { buffer }] of this.#held) {
      if (one <= sequence) continue;
      this.#held.delete(one);
      this.#bytes -= buffer.length;
    }
  }

  #take(length: number): Buffer | undefined {
    const fitting = this.#free.findIndex((buffer) => buffer.length >= length);
    if (fitting !== -1) return this.#free.splice(fitting, 1)[0];
    // An eighth more: the next beat's request is as large or a little larger.
    const size = length + (length >> 3);
    if (this.#bytes + size > this.#bytesMax) {
      for (const buffer of this.#free) this.#bytes -= buffer.length;
      this.#free = [];
    }
    if (this.#bytes + size > this.#bytesMax) return undefined;
    this.#bytes += size;
    return Buffer.allocUnsafeSlow(size);
  }
}
