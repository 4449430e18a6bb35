// How the six states of a GPU look wherever they are drawn: terminal, page, report and dashboards (METERING.md 2).
// Work is green, stuck work red, idle models amber, GPUs that no server of ours holds grey; time that nothing observed is
// a purple grey and, where the medium can, hatched. Each colour of work stands 3:1 against the paper it is drawn on.
import type { GpuState } from "../model.ts";

/** The look of one state. */
export interface StateLook {
  /** The name people read. */
  readonly label: string;
  /** One line on what such a second is. */
  readonly meaning: string;
  /** `#rrggbb` on a white page. */
  readonly light: string;
  /** `#rrggbb` on a dark page. */
  readonly dark: string;
  /** One of the 16 colours of a terminal. */
  readonly terminal: "green" | "red" | "yellow" | "white" | "gray" | "magenta";
  /** The same as a number of `ESC [ n m`. */
  readonly sgr: 32 | 31 | 33 | 37 | 90 | 35;
  /** One narrow character that tells the state where there is no colour. */
  readonly glyph: string;
  /** Drawn with stripes where the medium can: an area of which nothing is known. */
  readonly isHatched: boolean;
}

/** Every state, in the order in which bars are stacked from the axis: work first, what is not known last. */
export const stateOrder = ["token_active", "stalled", "parked", "other", "free", "unobserved"] as const;

/** The look of every state. */
export const stateLooks: Readonly<Record<GpuState, StateLook>> = {
  token_active: {
    label: "token active",
    meaning: "a request of a metered server is in execution",
    light: "#2e9e62",
    dark: "#3fbf7f",
    terminal: "green",
    sgr: 32,
    glyph: "█",
    isHatched: false,
  },
  stalled: {
    label: "stalled",
    meaning: "requests are in flight and make no progress, or the GPU works and nothing asked for it",
    light: "#c0322b",
    dark: "#ef6155",
    terminal: "red",
    sgr: 31,
    glyph: "▓",
    isHatched: false,
  },
  parked: {
    label: "parked",
    meaning: "a server holds the GPU and nothing is in flight",
    light: "#c27c00",
    dark: "#eeb13c",
    terminal: "yellow",
    sgr: 33,
    glyph: "▒",
    isHatched: false,
  },
  other: {
    label: "other",
    meaning: "held by processes that are not metered",
    light: "#5f6b78",
    dark: "#98a3b0",
    terminal: "white",
    sgr: 37,
    glyph: "░",
    isHatched: false,
  },
  free: {
    label: "free",
    meaning: "no process holds it",
    light: "#ced5dc",
    dark: "#46505b",
    terminal: "gray",
    sgr: 90,
    glyph: "·",
    isHatched: false,
  },
  unobserved: {
    label: "unobserved",
    meaning: "no valid reading covers it",
    light: "#9184ad",
    dark: "#8578a3",
    terminal: "magenta",
    sgr: 35,
    glyph: "?",
    isHatched: true,
  },
};
