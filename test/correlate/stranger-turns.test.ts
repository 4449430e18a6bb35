// A stranger takes joules beside a server for as long as it works there: by what is drawn, else by how often it works alone.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OwnPower } from "../../agent/correlate/energy/own-power.ts";
import type { Part } from "../../agent/correlate/member.ts";
import type { Piece, ResidentState } from "../../agent/correlate/pieces.ts";
import { besideStranger } from "../../agent/correlate/stranger-turns.ts";
import { Strangers } from "../../agent/correlate/strangers.ts";
import { second } from "./scene.ts";

interface Host {
  /** Watts of a server and of a stranger while they work alone, and how busy they keep the GPU. */
  readonly watts: readonly [number, number];
  readonly busy: readonly [number, number];
  /** Of a minute without requests it works for so much. */
  readonly duty: number;
  readonly isSeenAlone?: boolean;
  readonly residents?: Partial<Part["residents"]>;
}

function partOf({ busy, duty, isSeenAlone = true, residents = {}, watts }: Host): Part {
  const [ownPower, strangers] = [new OwnPower(), new Strangers()];
  ["chat", "unmetered"].forEach((server, at) => {
    const joules = 20_000 * (watts[at] as number);
    if (isSeenAlone) ownPower.observeAlone(server, 20 * second, 20 * second * (busy[at] as number), joules);
  });
  strangers.observeIdle(60 * second, duty * 60 * second, true);
  strangers.observeIdle(60 * second, (1 - duty) * 60 * second, false);
  const rule = { method: "equal", weights: undefined };
  const among = { hasShares: false, areTogether: false, ...residents };
  return { member: { ownPower, strangers }, residents: among, rule } as unknown as Part;
}

const states: readonly ResidentState[] = [
  { server: "chat", state: "token_active" },
  { server: "unmetered", state: "stalled" },
];
const piece: Piece = {
  from: 61 * second,
  to: 62 * second,
  state: "token_active",
  works: true,
  residents: states,
};

/** What the stranger gets of what is drawn. */
function strangersPart({ rule: { weights } }: Part): number {
  const [chat, stranger] = [weights?.get("chat") ?? 1, weights?.get("unmetered") ?? 1];
  return stranger / (chat + stranger);
}

const host = fc.record({
  watts: fc.tuple(fc.integer({ min: 60, max: 160 }), fc.integer({ min: 350, max: 550 })),
  busy: fc.tuple(fc.double({ min: 0.2, max: 1, noNaN: true }), fc.double({ min: 0.8, max: 1, noNaN: true })),
  duty: fc.double({ min: 0.1, max: 0.9, noNaN: true }),
});

describe("besideStranger()", () => {
  test("finds what a stranger draws beside a server by what both draw, however often it works alone", () => {
    fc.assert(
      fc.property(host, fc.double({ min: 0, max: 1, noNaN: true }), (drawn, worked) => {
        const [[chat, stranger], [busy, other]] = [drawn.watts, drawn.busy];
        const time = worked / Math.max(1, busy + other);
        const watts = time * (chat + stranger) + (1 - worked) * chat;
        const off = (isNear: boolean): number =>
          Math.abs(
            strangersPart(besideStranger(partOf(drawn), piece, { watts, isNear })) -
              (time * stranger) / watts,
          );
        expect(off(true)).toBeLessThanOrEqual(off(false) + 1e-9);
        // Farthest off where a stranger that works nearly always alone rests just then.
        expect(off(true)).toBeLessThanOrEqual(0.31);
      }),
    );
  });

  test("takes a stranger to work as often as alone where watts say nothing, and says how far off that may be", () => {
    fc.assert(
      fc.property(host, ({ duty }) => {
        const unseen = partOf({ watts: [200, 200], busy: [1, 1], duty, isSeenAlone: false });
        const part = besideStranger(unseen, piece, { watts: 300, isNear: true });
        // Half of the time in which it works is its own; beside others that is more of the time than alone.
        expect(strangersPart(part)).toBeGreaterThanOrEqual(duty / 2 - 0.02);
        expect(strangersPart(part)).toBeLessThanOrEqual(duty / (1 + duty) + 0.02);
        expect(part.rule.doubtRatio).toBeGreaterThan(0.05);
      }),
    );
  });

  test("asks neither where the driver says who worked, nor of clients of MPS, nor before a stranger was seen", () => {
    const usual: Host = { watts: [200, 400], busy: [1, 1], duty: 0.5 };
    const drawn = { watts: 200, isNear: true };
    for (const residents of [{ hasShares: true }, { areTogether: true }]) {
      const part = partOf({ ...usual, residents });
      expect(besideStranger(part, piece, drawn)).toBe(part);
    }
    const part = partOf(usual);
    const unknown = { ...part, member: { ...part.member, strangers: new Strangers() } };
    expect(besideStranger(unknown, piece, drawn)).toBe(unknown);
  });
});
