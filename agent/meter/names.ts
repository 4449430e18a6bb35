// Names from outside as attribute values: what a gateway calls its tenants and endpoints.
// `other`, `unknown` and `unattributed` are words of ours (METERING.md 3 and 5): a tenant of such a name is kept apart by a
// mark in front. Control characters are written out, for no receiver of events or tables takes them.

import type { Dimensions, LatencyName } from "../model.ts";

/** What a missing tenant, endpoint or model reads as. */
export const unknownName = "unknown";
/** The name everything over a cap on exported series is booked under. */
export const otherName = "other";
/** The tenant, or model, of what no record explains. */
export const unattributedName = "unattributed";

const reserved = /^~*(?:other|unknown|unattributed)$/;
/** Names that look as ours do in a report. */
const bracketed = /^~*\((?:other|unknown|unattributed)\)$/;
// What a text of CloudEvents 1.0 may not hold: controls, noncharacters and halves of surrogate pairs; and line separators.
const unprintable = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\p{Noncharacter_Code_Point}]/u;
const unprintables = new RegExp(unprintable.source, "gu");

/** The attribute value of a name from outside; a missing or empty one is `unknown`. No two names share a value. */
export function attributeOf(name: string | undefined): string {
  if (name === undefined || name === "") return unknownName;
  const printable = printableName(name);
  return reserved.test(printable) ? `~${printable}` : printable;
}

/**
 * The name behind an attribute value as a report shows it: words of ours in brackets, everything else as it was given. A
 * name that was given with those brackets gets a mark in front, so that no two values share a name.
 */
export function nameOf(value: string): string {
  if (value === unknownName || value === otherName || value === unattributedName) return `(${value})`;
  if (bracketed.test(value)) return `~${value}`;
  return givenName(value);
}

/** The name behind an attribute value as it was given; ours as they are. */
export function givenName(value: string): string {
  return value.startsWith("~") && reserved.test(value) ? value.slice(1) : value;
}

/** A text without characters that cannot be printed: each is written as its number, such as `\\x0a`. */
export function printableName(name: string): string {
  if (!unprintable.test(name)) return name;
  return name.replaceAll("\\", "\\\\").replaceAll(unprintables, (found) => {
    const digits = (found.codePointAt(0) ?? 0).toString(16);
    return digits.length <= 2 ? `\\x${digits.padStart(2, "0")}` : `\\u${digits.padStart(4, "0")}`;
  });
}

/** The attribute of a model that a server names; none where it names none. */
export function modelAttributes(model: string | undefined): Dimensions {
  return model === undefined || model === "" ? {} : { "gen_ai.request.model": attributeOf(model) };
}

/** The metrics of an engine's latencies. Names of the OpenTelemetry GenAI conventions 1.41 where they have one, ours where they have none. */
export const engineLatencies: Readonly<Record<LatencyName, string>> = {
  time_to_first_token: "gen_ai.server.time_to_first_token",
  time_per_output_token: "gen_ai.server.time_per_output_token",
  request_duration: "gen_ai.server.request.duration",
  inter_token_latency: "tokenwatt.server.inter_token_latency",
  queue_time: "tokenwatt.server.queue_time",
};

/** A set of one attribute; empty where there is no value. */
export function attributes(key: string, value: string | undefined): Dimensions {
  return value === undefined || value === "" ? {} : { [key]: value };
}
