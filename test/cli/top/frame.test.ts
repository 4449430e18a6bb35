// Frames as a terminal gets them: read in the diff at the sizes people have, and laws that hold for every host and size.
import { stripVTControlCharacters } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { FrameParts } from "../../../agent/cli/top/frame.ts";
import { drawFrame } from "../../../agent/cli/top/frame.ts";
import { headsOf } from "../../../agent/cli/top/panels.ts";
import type { Host } from "../../../agent/cli/top/rows.ts";
import type { Key, ScreenState } from "../../../agent/cli/top/screen-state.ts";
import { initialState, press, views } from "../../../agent/cli/top/screen-state.ts";
import { columnsOf } from "../../../agent/cli/top/text.ts";
import type { View } from "../../../agent/export/page/view.ts";
import { anyHosts, history, view } from "./hosts.ts";

const COLOURS = { colours: true, unicode: true };
const PLAIN = { colours: false, unicode: true };
const ASCII = { colours: false, unicode: false };
/** All that is written beside text. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const SGR = /\u001b\[(0|1|7|90|3[1-7]|1;31)m/g;
const host: Host = { name: "this host", view, history };

function frame(more: Partial<FrameParts> = {}): string {
  return drawFrame({ hosts: [host], state: initialState, columns: 80, rows: 24, look: PLAIN, ...more });
}

/** The state after keys, named as they are typed. */
function stateAfter(keys: readonly (string | Key)[], from: ScreenState = initialState): ScreenState {
  return keys.reduce<ScreenState>(
    (state, key) =>
      typeof key === "string"
        ? press(state, key, {}, headsOf(state.view))
        : press(state, "", key, headsOf(state.view)),
    from,
  );
}

describe("frames", () => {
  const sizes: readonly (readonly [string, Partial<FrameParts>])[] = [
    ["80x24", { columns: 80, rows: 24 }],
    ["80x24-ascii", { columns: 80, rows: 24, look: ASCII }],
    ["200x60", { columns: 200, rows: 60 }],
    ["200x60-colours", { columns: 200, rows: 60, look: COLOURS }],
    [
      "two-hosts",
      { columns: 120, rows: 30, hosts: [host, { name: "gpu-18", problem: "nothing listens there" }] },
    ],
    ...views.map(
      (name) =>
        [
          `view-${name.toLowerCase()}`,
          { columns: 100, rows: 24, state: { ...initialState, view: name } },
        ] as const,
    ),
    ["help", { state: stateAfter(["h"]) }],
  ];
  test.each(sizes)("%s", async (name, more) => {
    await expect(`${frame(more)}\n`).toMatchFileSnapshot(`../../fixtures/top/${name}.txt`);
  });

  test("fit every size, move no cursor by a name, and say the same with colours and without", () => {
    const sizes = fc.record({
      columns: fc.integer({ min: 1, max: 250 }),
      rows: fc.integer({ min: 2, max: 80 }),
    });
    const keys = fc.array(fc.constantFrom(..."1234567srp/hxq", " "), { maxLength: 8 });
    fc.assert(
      fc.property(anyHosts, sizes, keys, (hosts, size, typed) => {
        const state = stateAfter(typed);
        const coloured = drawFrame({ hosts, state, ...size, look: COLOURS });
        const plain = drawFrame({ hosts, state, ...size, look: PLAIN });
        const lines = plain.split("\n");
        expect(lines.length).toBeLessThanOrEqual(Math.max(1, size.rows - 1));
        for (const line of lines) expect(columnsOf(line)).toBeLessThanOrEqual(size.columns);
        expect(plain).not.toMatch(/[^\P{Cc}\n]/u);
        // Colours are all that is added, but for the marks of states, which are then told by colour.
        const bare = (text: string): string => text.replaceAll(/[█▓▒░]/gu, "#").replaceAll(/[^\S\n]+$/gm, "");
        expect(bare(stripVTControlCharacters(coloured))).toBe(bare(plain));
        expect(coloured.replaceAll(SGR, "")).not.toContain("\x1b");
      }),
      { numRuns: 150 },
    );
  });

  test("never show a token-active share without saying that capacity is not known", () => {
    for (let columns = 40; columns <= 220; columns++) {
      const text = frame({ columns, rows: 60 });
      const head = text.split("\n").find((line) => line.startsWith("GPU^")) ?? "";
      if (head.includes("active")) expect(text).toContain("capacity not known");
      else expect(columns).toBeLessThan(110);
    }
  });

  test("say what capacity was used, where it is known from and how old that is", () => {
    const known = (capacity: View["capacity"]): string =>
      frame({ columns: 200, hosts: [{ ...host, view: { ...view, capacity } }] });
    const told = {
      ...{ utilization: 0.61, utilization_min: null, utilization_max: null },
      ...{ limit_seen: true, age_seconds: null, servers: 3, servers_known: 3 },
    };
    expect(known({ ...told, source: "learned", age_seconds: 7200 })).toMatch(
      /token active, 61% of capacity \(learned 2(\.0)? h ago\)/,
    );
    expect(known({ ...told, source: "config" })).toContain("61% of capacity (config)");
    const bounds = { ...told, source: "learned", utilization_min: 0.47, utilization_max: 0.88 };
    expect(known({ ...bounds, limit_seen: false })).toContain(
      "47% to 88% of capacity (learned, limit not seen)",
    );
    expect(known(bounds)).toContain("47% to 88% of capacity (learned)");
    expect(known({ ...bounds, servers_known: 2 })).toContain(
      "47% to 88% of capacity of 2 of 3 servers (learned)",
    );
    // As agents of an earlier version tell it, of all servers.
    const { servers: _, servers_known: __, ...earlier } = bounds;
    expect(known(earlier as unknown as View["capacity"])).toContain("47% to 88% of capacity (learned)");
  });

  test("ASCII alone where the terminal says so", () => {
    for (const name of views)
      expect(
        frame({
          look: ASCII,
          state: { ...initialState, view: name },
          columns: 200,
          hosts: [{ ...host, view: { ...view, tenants: [] } }],
        }),
      ).toMatch(/^[\x20-\x7e\n]*$/);
  });
});

describe("keys", () => {
  const rowsBy = (keys: readonly (string | Key)[]): string[] =>
    frame({ state: stateAfter(keys), columns: 200 })
      .split("\n")
      .flatMap((line) => /^ +\.?(\d) {2}\S/.exec(line)?.[1] ?? []);

  test("s sorts by the next column, largest first; r turns it round; what is not known is last either way", () => {
    expect(rowsBy([])).toEqual(["0", "1", "2", "3"]);
    // GPU, model, last minute, util, power.
    expect(rowsBy(["s", "s", "s", "s"])).toEqual(["0", "1", "2", "3"]);
    expect(rowsBy(["s", "s", "s", "s", "r"])).toEqual(["2", "1", "0", "3"]);
  });

  test("/ filters by whatever a row is about, escape shows all again", () => {
    expect(rowsBy(["/", ..."4711", { return: true }])).toEqual(["1"]);
    expect(rowsBy(["/", ..."SMALL", { return: true }])).toEqual(["0"]);
    expect(rowsBy(["/", ..."none of it", { return: true }])).toEqual([]);
    expect(rowsBy(["/", ..."4711", { return: true }, { escape: true }])).toHaveLength(4);
    expect(stateAfter(["/", "q", "q", { backspace: true }])).toMatchObject({ filter: "q", isDone: false });
  });

  test("arrows pass rows over, and the frame says how many are left", () => {
    const small = { rows: 12, columns: 80 };
    expect(frame(small)).toContain("lines below (arrows)");
    const moved = frame({ ...small, state: stateAfter([{ downArrow: true }, { downArrow: true }]) });
    expect(moved).toContain("2 lines above");
    // Past the end there is nothing.
    const end = frame({ ...small, state: stateAfter(Array(9).fill({ pageDown: true })) });
    expect(end).toContain("GPU is lost");
  });

  test("digits, tab and arrows turn views; p pauses, h helps, q and ctrl-c end", () => {
    expect(stateAfter(["3"]).view).toBe("tenants");
    expect(stateAfter([{ tab: true }]).view).toBe("servers");
    expect(stateAfter([{ leftArrow: true }]).view).toBe("hour");
    expect(stateAfter(["p"]).isPaused).toBe(true);
    expect(frame({ state: stateAfter([" "]) })).toContain("PAUSED");
    expect(stateAfter(["h", "x"])).toMatchObject({ isHelp: false, isDone: false });
    expect(stateAfter(["q"]).isDone).toBe(true);
    expect(press(initialState, "c", { ctrl: true }, []).isDone).toBe(true);
  });
});
