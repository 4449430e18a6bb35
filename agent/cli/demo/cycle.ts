// A piece of a recording that is played round and round without an end: what counts in it goes on counting from round to
// round, as it would on a host that never rests. Closed forms, so that any instant can be asked for.

/** The piece [from, to) of a recording, microseconds since 1970, and how far into it the scene begins. */
export interface Piece {
  readonly from: number;
  readonly to: number;
  readonly offset: number;
}

/** A place: how often the piece was played before, and the recorded microsecond. */
export interface Place {
  readonly round: number;
  readonly micros: number;
}

/** Where the piece stands `elapsed` microseconds into the scene. */
export function placeAt({ from, offset, to }: Piece, elapsed: number): Place {
  const length = to - from;
  const all = offset + elapsed;
  const round = Math.floor(all / length);
  return { round, micros: from + (all - round * length) };
}

/** How far into the scene a recorded microsecond of a round is reached. */
export function elapsedAt({ from, offset, to }: Piece, { micros, round }: Place): number {
  return round * (to - from) + (micros - from) - offset;
}

/** What a counter of the recording has counted since the scene began; `at` gives its recorded total. */
export function countedBy(piece: Piece, elapsed: number, at: (micros: number) => number): number {
  const { micros, round } = placeAt(piece, elapsed);
  const begin = at(piece.from + piece.offset);
  return round * (at(piece.to) - at(piece.from)) + at(micros) - begin;
}

/** How much of the scene's time something was played that stands still from `from` to `to` of every so many seconds. */
export function playedBy(
  lost: { readonly from: number; readonly to: number; readonly every: number } | undefined,
  elapsed: number,
): number {
  return lost === undefined ? elapsed : elapsed - spentIn(lost, elapsed);
}

/** Microseconds of the scene so far that lie in a stretch which comes again every so many seconds. */
export function spentIn(
  { every, from, to }: { readonly from: number; readonly to: number; readonly every: number },
  elapsed: number,
): number {
  const rounds = Math.floor(elapsed / (every * 1e6));
  const within = elapsed - rounds * every * 1e6;
  return (rounds * (to - from) + Math.min(to - from, Math.max(0, within / 1e6 - from))) * 1e6;
}
