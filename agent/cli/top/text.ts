// Text of the terminal screen: pieces with a style, cut and padded by the columns they take, and written with the 16 colours
// every terminal has, or with none. Names come from outside: what would move the cursor is written as a question mark.
import type { GpuState } from "../../model.ts";
import { stateLooks } from "../../platform/state-colours.ts";

/** How a piece looks. */
export type Style = GpuState | "strong" | "quiet" | "bad" | "warn" | "good" | "head" | "accent";

/** A piece of a line. */
export interface Piece {
  readonly text: string;
  readonly style?: Style | undefined;
}

/** A line of a screen, before it is cut to its width. */
export type Line = readonly Piece[];

/** What the terminal can show. */
export interface Look {
  readonly colours: boolean;
  /** Block and line characters; else ASCII alone. */
  readonly unicode: boolean;
}

const CODES: Readonly<Record<Exclude<Style, GpuState>, string>> = {
  strong: "1",
  quiet: "90",
  bad: "1;31",
  warn: "33",
  good: "32",
  head: "7",
  accent: "36",
};

/** A piece. */
export function piece(text: string, style?: Style): Piece {
  return { text, style };
}

/** The line as a terminal takes it, exactly `width` columns or fewer. */
export function writeLine(line: Line, width: number, { colours }: Look): string {
  let left = width;
  let written = "";
  for (const { style, text } of line) {
    const shown = cut(printable(text), left);
    left -= columnsOf(shown);
    written +=
      colours && style !== undefined && shown !== "" ? `\x1b[${codeOf(style)}m${shown}\x1b[0m` : shown;
    if (left <= 0) break;
  }
  return written.trimEnd();
}

/** The line cut and padded to exactly `width` columns. */
export function setTo(line: Line, width: number, right = false): Line {
  const pieces: Piece[] = [];
  let left = width;
  for (const { style, text } of line) {
    const shown = cut(printable(text), left);
    left -= columnsOf(shown);
    pieces.push({ text: shown, style });
    if (left <= 0) break;
  }
  const pad = { text: " ".repeat(Math.max(0, left)) };
  return right ? [pad, ...pieces] : [...pieces, pad];
}

function codeOf(style: Style): string {
  return style in stateLooks
    ? String(stateLooks[style as GpuState].sgr)
    : CODES[style as Exclude<Style, GpuState>];
}

/** The columns a text takes. */
export function columnsOf(text: string): number {
  let columns = 0;
  for (const letter of text) columns += letterColumns(letter);
  return columns;
}

function cut(text: string, columns: number): string {
  if (columnsOf(text) <= columns) return text;
  if (columns <= 0) return "";
  let kept = "";
  let used = 0;
  for (const letter of text) {
    used += letterColumns(letter);
    if (used > columns - 1) break;
    kept += letter;
  }
  return `${kept}~`;
}

/** East Asian wide letters and emoji take two columns, marks none (Unicode Standard Annex 11). */
function letterColumns(letter: string): number {
  const code = letter.codePointAt(0) ?? 0;
  if (code < 0x300) return 1;
  if (/\p{M}/u.test(letter)) return 0;
  const isWide =
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0x1f300 && code <= 0x1faff) ||
    code >= 0x20000;
  return isWide ? 2 : 1;
}

function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu, "?");
}
