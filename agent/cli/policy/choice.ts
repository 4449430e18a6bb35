// What of a policy is asked for by name, and what to say where there is nothing of that name.
import { nearest } from "../../config/nearest.ts";
import { attributeOf, nameOf } from "../../meter/names.ts";
import type { MatchKey, Policy, Quota } from "../../policy/config.ts";
import { matchKeys } from "../../policy/config.ts";
import { attributeOfKey, countedMetrics } from "../../policy/usage.ts";
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
export function unknownValue(reader: LedgerReader, what: MatchKey, given: string): string | undefined {
  const why = missingIn(usedValues(reader, what), attributeOf(given));
  return why === undefined ? undefined : `the ledger has no usage of ${what} "${given}"${why}`;
}

/** The same of every name that a policy's quotas match by, where the ledger has usage of others. */
export function neverUsed({ quotas }: Policy, reader: LedgerReader): readonly string[] {
  const known = new Map(matchKeys.map((key) => [key, usedValues(reader, key)]));
  return quotas.flatMap(({ match, name }) =>
    matchKeys.flatMap((key) => {
      const [wanted, used] = [match[key], known.get(key) ?? new Set<string>()];
      const why =
        wanted === undefined || wanted === "*" || used.size === 0 ? undefined : missingIn(used, wanted);
      return why === undefined
        ? []
        : [`quota ${name}: the ledger has no usage of ${key} "${nameOf(wanted ?? "")}"${why}`];
    }),
  );
}

function usedValues(reader: LedgerReader, key: MatchKey): ReadonlySet<string> {
  const used = [...reader.series(countedMetrics).values()].map(
    ({ dimensions }) => dimensions[attributeOfKey[key]],
  );
  return new Set(used.filter((value) => value !== undefined));
}

/** Why a value is none of those that were used, with the one it may have been meant for; undefined where it is one. */
function missingIn(used: ReadonlySet<string>, value: string): string | undefined {
  if (used.has(value)) return undefined;
  const near = nearest(nameOf(value), [...used].map(nameOf));
  if (near !== undefined) return `: did you mean ${near}?`;
  return used.size === 0 ? "" : `, of ${used.size} others it has`;
}
