// What a terminal can show, by what its environment says: colours unless NO_COLOR is set (no-color.org), block characters
// where the locale is UTF-8, and neither on a terminal that can do nothing (TERM=dumb).
import type { Environment, Output } from "../common/io.ts";
import type { Look } from "./text.ts";

/** What can be shown there. */
export function lookOf(env: Environment, output: Output): Look {
  const isDumb = env["TERM"] === "dumb";
  const locale = env["LC_ALL"] || env["LC_CTYPE"] || env["LANG"] || "";
  const noColour = (env["NO_COLOR"] ?? "") !== "" || isDumb || output.isTTY !== true;
  return { colours: !noColour, unicode: !isDumb && (/utf-?8/i.test(locale) || locale === "") };
}

/** Whether the cursor can be moved on it: a screen, and not lines one below the other. */
export function isScreen(env: Environment, output: Output): boolean {
  return output.isTTY === true && env["TERM"] !== "dumb";
}
