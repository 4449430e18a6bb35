// Readings of a page with what only the source knows: the product endpoint, and the run its counters began with.
import type { Nanos, ServerInfo, TokenReading } from "../../model.ts";
import { keepShape } from "../../platform/kept-shapes.ts";

/** The epoch of a run that a response header identifies. */
export function headerEpoch(header: string): string {
  return `header:${header.slice(0, 64)}`;
}

/**
 * Readings with what only the source knows. Of readings that come again, as `isKept` says, the same list each time: they need
 * not be compared further on.
 */
export function locatedOnce(
  info: ServerInfo,
): (
  readings: readonly TokenReading[],
  header: string | readonly string[] | undefined,
  began: Nanos | undefined,
  isKept: boolean,
) => readonly TokenReading[] {
  let last: { readonly of: unknown; readonly header: unknown; readonly began: unknown } | undefined;
  let all: readonly TokenReading[] = [];
  return (readings, header, began, isKept) => {
    if (last?.of === readings && last.header === header && last.began === began) return all;
    const found = readings.map((reading) => located(reading, info, header, began));
    keepShape(info, found[0]);
    [last, all] = isKept ? [{ of: readings, header, began }, found] : [undefined, []];
    return found;
  };
}

/** The reading with what only the source knows: the product endpoint, and the run its counters began with. */
function located(
  reading: TokenReading,
  info: ServerInfo,
  header: string | readonly string[] | undefined,
  epochBegan: Nanos | undefined,
): TokenReading {
  const epoch = reading.epoch ?? (typeof header === "string" ? headerEpoch(header) : undefined);
  const endpoint = reading.endpoint ?? info.endpoint;
  if (epoch === reading.epoch && endpoint === reading.endpoint && epochBegan === undefined) return reading;
  const copy: { -readonly [Key in keyof TokenReading]: TokenReading[Key] } = { ...reading };
  if (epoch !== undefined) copy.epoch = epoch;
  if (epochBegan !== undefined) copy.epochBegan = epochBegan;
  if (endpoint !== undefined) copy.endpoint = endpoint;
  return copy;
}
