// Caps on names that come from outside: what is over a cap is booked under `other`, and nothing is lost (METERING.md 5).
// Names are let in first come, first served, and leave only when a bucket ends: a folded name stays folded in it.
import type { Dimensions } from "../../model.ts";
import { otherName, unattributedName, unknownName } from "../names.ts";

const tenantKey = "tokenwatt.tenant";
/** Attributes whose values come from outside; the rest are short lists of ours and are kept. */
const openKeys: ReadonlySet<string> = new Set([
  tenantKey,
  "tokenwatt.endpoint",
  "tokenwatt.gateway.id",
  "tokenwatt.gateway.run",
  "gen_ai.request.model",
  "tokenwatt.server.id",
  "gen_ai.provider.name",
  "hw.id",
  "hw.model",
  "hw.parent",
  "tokenwatt.reason",
  "tokenwatt.xid.code",
  "tokenwatt.source",
  "tokenwatt.law",
  "tokenwatt.price.version",
]);

/** These attributes with every outside name replaced by `other`. */
export function foldAll(dimensions: Dimensions): Dimensions {
  return Object.fromEntries(
    Object.entries(dimensions).map(([key, value]) => [key, openKeys.has(key) ? otherName : value]),
  );
}

/** Which tenants have a series of their own. */
export class Tenants {
  readonly #max: number;
  readonly #always: ReadonlySet<string>;
  readonly #admitted = new Set<string>();

  constructor(max: number, always: readonly string[] = []) {
    this.#max = max;
    this.#always = new Set([...always, otherName, unknownName, unattributedName]);
  }

  /** Whether this tenant is booked under its own name. */
  admit(tenant: string): boolean {
    if (this.#always.has(tenant)) return true;
    if (!this.#admitted.has(tenant) && this.#admitted.size >= this.#max) return false;
    this.#admitted.add(tenant);
    return true;
  }

  /** Forgets tenants that are not `shown` any more. Called when a bucket ends. */
  releaseOthers(shown: ReadonlySet<string>): void {
    for (const tenant of this.#admitted) if (!shown.has(tenant)) this.#admitted.delete(tenant);
  }
}

/** The tenant of a series, if it has one. */
export function tenantOf(dimensions: Dimensions): string | undefined {
  return dimensions[tenantKey];
}

/** The same attributes for the tenant `other`. */
export function withOtherTenant(dimensions: Dimensions): Dimensions {
  return { ...dimensions, [tenantKey]: otherName };
}
