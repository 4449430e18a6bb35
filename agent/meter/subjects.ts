// What a series is about, and whether that is still there: a counter of something gone rests for ever, while one of
// something that is only idle says 0, which is a measurement. Tenants, endpoints and holders are there while they are used.
import type { Dimensions } from "../model.ts";
import type { MeterFacts } from "./meter.ts";

/** Attributes whose subjects no source lists: they are known by their use alone. */
const usedOnly = ["tokenwatt.tenant", "tokenwatt.endpoint", "tokenwatt.gateway.id", "tokenwatt.holder.kind"];

/** Whether the subject of these attributes is there, used or not. */
export function isSubjectHere(
  dimensions: Dimensions,
  facts: Pick<MeterFacts, "servers" | "serves" | "soleModel">,
  priceVersion: string | undefined,
): boolean {
  if (usedOnly.some((key) => dimensions[key] !== undefined)) return false;
  const version = dimensions["tokenwatt.price.version"];
  if (version !== undefined && version !== priceVersion) return false;
  const {
    "gen_ai.request.model": model,
    "tokenwatt.server.id": server,
    "tokenwatt.source": source,
  } = dimensions;
  if (source?.startsWith("server:") === true && !facts.servers.has(source.slice("server:".length)))
    return false;
  const serves = (id: string): boolean =>
    model === undefined || (facts.serves?.(id, model) ?? facts.soleModel?.(id) === model);
  if (server !== undefined) return facts.servers.has(server) && serves(server);
  return model === undefined || [...facts.servers.keys()].some(serves);
}
