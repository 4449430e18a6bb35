// What of a policy is asked for by name, and what to say where there is nothing of that name.
import { nearest } from "../../config/nearest.ts";
import { attributeOf, nameOf } from "../../meter/names.ts";
import type { Policy, Quota } from "../../policy/config.ts";
import { countedMetrics } from "../../policy/usage.ts";
import type { LedgerReader } from "../../store/ledger/reader.ts";
import { UsageError } from "../common/errors.ts";

/** The quotas of a policy, or the one that is named. Throws UsageError where there is none of that name. */
export function chosenQuotas(policy: Policy, name: string | undefined, path: string): readonly Quota[] {
  if (name === undefined) return policy.quotas;
  const found = policy.quotas.filter((quota) => quota.name === name);
  if (found.length > 0) return found;
  const names = policy.quotas.map((quota) => quota.name);
  const near = nearest(name, names);
  throw new UsageError(
    `Cannot find --quota "${name}" in ${path}`,
    near === undefined ? `it has ${names.slice(0, 20).join(", ") || "none"}` : `did you mean ${near}?`,
  );
}

/** What to say of a value no usage in the ledger has, for example a tenant that was misspelt; undefined where some has. */
export function unknownValue(
  reader: LedgerReader,
  what: "tenant" | "model" | "endpoint",
  given: string,
): string | undefined {
  const attribute = what === "model" ? "gen_ai.request.model" : `tokenwatt.${what}`;
  const known = new Set<string>();
  for (const { dimensions } of reader.series(countedMetrics).values()) {
    const value = dimensions[attribute];
    if (value !== undefined) known.add(value);
  }
  if (known.has(attributeOf(given))) return undefined;
  const near = nearest(given, [...known].map(nameOf));
  const hint = near === undefined ? `${known.size} others have` : `did you mean ${near}?`;
  return `the ledger has no usage of ${what} "${given}": ${hint}`;
}
