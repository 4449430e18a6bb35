// The cheapest way to give each of some workers a seat of its own (the assignment problem), by shortest augmenting paths with
// potentials (R. Jonker and A. Volgenant, Computing 38, 1987): as many steps as the cube of the number of workers.

/** Who sits where, and what it costs. */
export interface Assignment {
  /** The seat of each worker. */
  readonly seats: readonly number[];
  readonly cost: number;
}

/** Returns the cheapest seats; `costOf` of a worker on a seat is finite. There are as many seats as workers, or more. */
export function cheapestSeats(
  workers: number,
  seats: number,
  costOf: (worker: number, seat: number) => number,
): Assignment {
  const ofWorker = new Float64Array(workers);
  const ofSeat = new Float64Array(seats + 1);
  /** Who sits on each seat; the last one is where a worker waits. */
  const taken = new Int32Array(seats + 1).fill(-1);
  for (let worker = 0; worker < workers; worker++) {
    const [least, from] = [new Float64Array(seats).fill(Infinity), new Int32Array(seats).fill(seats)];
    const isSeen = new Uint8Array(seats + 1);
    taken[seats] = worker;
    let seat = seats;
    while (taken[seat] !== -1) {
      isSeen[seat] = 1;
      const here = taken[seat] as number;
      let [next, gap] = [seats, Infinity];
      for (let other = 0; other < seats; other++) {
        if (isSeen[other] === 1) continue;
        const reduced = costOf(here, other) - (ofWorker[here] as number) - (ofSeat[other] as number);
        if (reduced < (least[other] as number)) {
          least[other] = reduced;
          from[other] = seat;
        }
        if ((least[other] as number) < gap) [next, gap] = [other, least[other] as number];
      }
      for (let other = 0; other <= seats; other++) {
        if (isSeen[other] === 1) {
          ofWorker[taken[other] as number] = (ofWorker[taken[other] as number] as number) + gap;
          ofSeat[other] = (ofSeat[other] as number) - gap;
        } else if (other < seats) least[other] = (least[other] as number) - gap;
      }
      seat = next;
    }
    while (seat !== seats) {
      const before = from[seat] as number;
      taken[seat] = taken[before] as number;
      seat = before;
    }
    taken[seats] = -1;
  }
  const found = Array.from({ length: workers }, () => 0);
  for (let seat = 0; seat < seats; seat++)
    if ((taken[seat] as number) >= 0) found[taken[seat] as number] = seat;
  return { seats: found, cost: found.reduce((sum, seat, worker) => sum + costOf(worker, seat), 0) };
}
