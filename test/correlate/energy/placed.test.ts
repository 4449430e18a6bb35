// Energy of execution without a known place: sums stay, what is beside keeps the floor, what is elsewhere keeps its own.
import fc from "fast-check";
import { expect, test } from "vitest";
import { placeEnergy } from "../../../agent/correlate/energy/placed.ts";
import type { Piece } from "../../../agent/correlate/pieces.ts";

type Kind = "placeless" | "placed" | "stalled" | "parked" | "other's";

function pieceOf(kind: Kind, from: number, to: number): Piece {
  const server = "one";
  const active = {
    from,
    to,
    state: "token_active",
    works: true,
    residents: [{ server, state: "token_active" }],
  } as const;
  if (kind === "placed") return active;
  if (kind === "placeless") return { ...active, doubt: { server, reason: "busy_share", ratio: 1 } };
  if (kind === "parked")
    return { from, to, state: "parked", works: false, residents: [{ server, state: "parked" }] };
  const worker = kind === "stalled" ? server : "two";
  return { from, to, state: "stalled", works: true, residents: [{ server: worker, state: "stalled" }] };
}

const stretches = fc.array(
  fc.record({
    kind: fc.constantFrom<Kind>("placeless", "placed", "stalled", "parked", "other's"),
    nanos: fc.integer({ min: 1_000_000, max: 400_000_000 }),
    watts: fc.integer({ min: 100, max: 700 }),
  }),
  { minLength: 1, maxLength: 12 },
);

test("placeEnergy() moves energy above the floor to execution without a place, and nothing else", () => {
  fc.assert(
    fc.property(stretches, (drawn) => {
      const edges = [0];
      for (const { nanos } of drawn) edges.push((edges.at(-1) ?? 0) + nanos);
      const pieces = drawn.map(({ kind }, at) => pieceOf(kind, edges[at] as number, edges[at + 1] as number));
      const before = drawn.map(({ nanos, watts }) => Math.round((nanos * watts) / 1e6));
      const energies = [...before];
      placeEnergy(edges, energies, (index) => pieces[index], 100);
      for (const [index, { kind, nanos }] of drawn.entries()) {
        const moved = (energies[index] as number) - (before[index] as number);
        expect(Number.isInteger(energies[index])).toBe(true);
        if (kind === "placed" || kind === "parked" || kind === "other's") expect(moved).toBe(0);
        if (kind === "stalled") expect(moved).toBeLessThanOrEqual(1);
        // Nothing falls below what holding the GPU costs, within a millijoule of rounding.
        expect(energies[index]).toBeGreaterThanOrEqual(Math.floor(nanos / 1e4) - 2);
      }
      const sum = (amounts: readonly number[]): number => amounts.reduce((all, amount) => all + amount, 0);
      expect(sum(energies)).toBe(sum(before));
      const beside = drawn.findIndex(
        ({ kind }, index) => kind === "stalled" && drawn[index + 1]?.kind === "placeless",
      );
      if (beside >= 0) {
        const { nanos } = drawn[beside] as { readonly nanos: number };
        expect(energies[beside]).toBeLessThanOrEqual(Math.ceil(nanos / 1e4) + 1);
      }
    }),
  );
});
