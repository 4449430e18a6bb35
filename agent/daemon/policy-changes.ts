// What a change of the policy is on record as: version, digest, quotas by name, and who wrote the file and when.
import type { LoadedPolicy } from "../config/policy.ts";

/** The body of the record of what is in force as an agent starts. */
export function inForce(loaded: LoadedPolicy): Readonly<Record<string, unknown>> {
  const { digest, quotas, version } = loaded.policy;
  return { version, digest, quotas: quotas.map(({ name }) => name), ...fileOf(loaded) };
}

/** The body of the record of a change. */
export function changesOf(
  before: LoadedPolicy | undefined,
  after: LoadedPolicy | undefined,
): Readonly<Record<string, unknown>> {
  const olds = quotasOf(before);
  const news = quotasOf(after);
  const isChanged = (name: string): boolean => olds.has(name) && olds.get(name) !== news.get(name);
  return {
    version: after?.policy.version ?? null,
    digest: after?.policy.digest ?? null,
    added: [...news.keys()].filter((name) => !olds.has(name)),
    changed: [...news.keys()].filter(isChanged),
    removed: [...olds.keys()].filter((name) => !news.has(name)),
    ...(after === undefined ? {} : fileOf(after)),
  };
}

function fileOf({ modifiedMillis, path, uid }: LoadedPolicy): Readonly<Record<string, unknown>> {
  return { file: { path, uid, modified: new Date(modifiedMillis).toISOString() } };
}

function quotasOf(loaded: LoadedPolicy | undefined): ReadonlyMap<string, string> {
  const quotas = loaded?.policy.quotas ?? [];
  const text = (_: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value);
  return new Map(quotas.map((quota) => [quota.name, JSON.stringify(quota, text)]));
}
