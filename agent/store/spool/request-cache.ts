// Copies of the newest requests, so that a destination that is up rarely reads the disk.
// Megabytes that are allocated with each beat outlive the young generation and pile up until a full collection:
// the copies of requests that every destination has are written over by the next ones.

/** Keeps requests by sequence, in at most `bytesMax` bytes, free buffers included. */
export class RequestCache {
  readonly #bytesMax: number;
  readonly #held = new Map<number, { readonly buffer: Buffer; readonly request: Buffer }>();
  #free: Buffer[] = [];
  #bytes = 0;
  /** Buffers that requests took since `beginBeat`. */
  #taken = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** A beat begins that is kept: buffers the last such had no use for are given up, as those of the zeros of new series. */
  beginBeat(): void {
    const unused = Math.max(0, this.#free.length - this.#taken);
    // Behind are those that were given back last.
    for (const buffer of this.#free.splice(0, unused)) this.#bytes -= buffer.length;
    this.#taken = 0;
  }

  /** Keeps a copy; not when there is no room for it. */
  keep(sequence: number, request: Uint8Array): void {
    const buffer = this.#take(request.length);
    if (buffer === undefined) return;
    this.#taken++;
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
      this.#free.push(buffer);
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
