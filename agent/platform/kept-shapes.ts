// Keeps one object of a kind alive that otherwise lives only while a page is read. Where a collection finds no object of a
// shape, V8 forgets the shape and throws away the code that was optimised for it ("embedded weak objects cleared" in
// --trace-deopt): with pages five seconds apart, most of what is done for each tenant of a gateway ran unoptimised again
// every half minute.

const kept = new WeakMap<object, unknown>();

/** Keeps `one` alive until the next call for `owner`, or until that is gone. */
export function keepShape(owner: object, one: unknown): void {
  kept.set(owner, one);
}
