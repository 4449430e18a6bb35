// customer-sets.ts against one that remembers nothing: the sets of a customer are those of its names, whoever else there is,
// the same objects while it comes, and never more than are allowed.
import fc from "fast-check";
import { expect, test } from "vitest";
import { CustomerSets, Customers } from "../../agent/meter/customer-sets.ts";

const name = fc.constantFrom(undefined, "", "a", "b", "a b", "1 1");
const customer = fc.record({ model: name, tenant: name, endpoint: name });

test("Customers gives each its own sets, the same within a minute", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ gateway: fc.constantFrom("g", "h", ""), customer, minutes: fc.nat(2) }), {
        size: "max",
        maxLength: 40,
      }),
      (uses) => {
        const customers = new Customers();
        const seen = new Map<string, { readonly sets: CustomerSets; readonly at: bigint }>();
        let now = 0n;
        for (const { customer: used, gateway, minutes } of uses) {
          now += BigInt(minutes) * 45_000_000_000n;
          const sets = customers.of(gateway, used, now);
          expect(sets.customer).toEqual(new CustomerSets(gateway, used).customer);
          const key = JSON.stringify([gateway, used.model ?? "", used.tenant ?? "", used.endpoint ?? ""]);
          const before = seen.get(key);
          if (before !== undefined && now - before.at < 60_000_000_000n) expect(sets).toBe(before.sets);
          seen.set(key, { sets, at: now });
          expect(customers.size).toBeLessThanOrEqual(seen.size);
        }
      },
    ),
  );
});
