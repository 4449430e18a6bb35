// The look of the six states: told apart with colour and without, and visible on white and on dark.
import { expect, test } from "vitest";
import { stateLooks, stateOrder } from "../../agent/platform/state-colours.ts";

const looks = Object.values(stateLooks);

test("stateOrder names every state once", () => {
  expect([...stateOrder].sort()).toEqual(Object.keys(stateLooks).sort());
});

test("stateLooks tells the states apart by each of its signs alone", () => {
  for (const sign of ["label", "light", "dark", "terminal", "sgr", "glyph"] as const) {
    expect(new Set(looks.map((look) => look[sign])).size, sign).toBe(looks.length);
  }
});

test("stateLooks keeps 3:1 against the paper for all that is more than an empty GPU", () => {
  for (const state of stateOrder.filter((one) => one !== "free")) {
    const { light, dark } = stateLooks[state];
    expect(contrast(light, "#ffffff"), `${state} on white`).toBeGreaterThanOrEqual(3);
    expect(contrast(dark, "#14181d"), `${state} on dark`).toBeGreaterThanOrEqual(3);
  }
});

/** Contrast of two colours as WCAG 2.2 defines it. */
function contrast(one: string, other: string): number {
  const [dim = 0, bright = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (bright + 0.05) / (dim + 0.05);
}

function luminance(colour: string): number {
  const parts = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16) / 255);
  const [red = 0, green = 0, blue = 0] = parts.map((part) =>
    part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
