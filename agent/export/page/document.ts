// The page at /: one document without a request beyond this host, put together from its parts when it is first asked for.
// Its script and style are allowed by their hashes and nothing else is (Content Security Policy Level 3).
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { stateLooks, stateOrder } from "../../platform/state-colours.ts";
import type { Page } from "../prometheus.ts";
import { stateLetters } from "./view.ts";

/** Markup, style and scripts, in the order in which the scripts are joined. */
const folder = fileURLToPath(new URL("./client", import.meta.url));
const SCRIPTS = ["format.js", "chart.js", "tables.js", "main.js"];

/** The page and what it is answered with. */
export interface PageDocument {
  readonly page: Page;
  readonly headers: Readonly<Record<string, string>>;
}

let made: PageDocument | undefined;

/** The page; the same object every time. */
export function pageDocument(): PageDocument {
  made ??= makeDocument();
  return made;
}

function makeDocument(): PageDocument {
  const read = (name: string): string => readFileSync(`${folder}/${name}`, "utf8");
  const looks = { order: stateOrder, looks: stateLooks, letters: stateLetters };
  const parts = SCRIPTS.map((name) => inlined(read(name))).join("\n");
  const script = `"use strict";\n(() => {\nconst STATES = ${JSON.stringify(looks)};\n${parts}\n})();`;
  const style = `${stateStyle()}\n${read("page.css")}`;
  const text = read("page.html")
    .replace("/*style*/", () => style)
    .replace("/*script*/", () => script);
  const policy = [
    "default-src 'none'",
    `script-src '${hashOf(script)}'`,
    `style-src '${hashOf(style)}'`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  return {
    page: { type: "text/html; charset=utf-8", bytes: Buffer.from(text) },
    headers: {
      "content-security-policy": policy.join("; "),
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cross-origin-resource-policy": "same-origin",
      "cache-control": "no-cache",
    },
  };
}

/** A script without its comments of whole lines and its imports: all parts stand in one scope. */
function inlined(text: string): string {
  return text
    .replaceAll(/^import [^;]*;\n/gm, "")
    .split("\n")
    .filter((line) => !/^\s*(\/\/|\/\*\*.*\*\/$)/.test(line) && line.trim() !== "")
    .map((line) => line.replace(/^export /, ""))
    .join("\n");
}

/** The colours of the states as variables, so that they are the same everywhere. */
function stateStyle(): string {
  const colours = stateOrder.map((state) => {
    const { dark, light } = stateLooks[state];
    return `--${state.replace("_", "-")}: light-dark(${light}, ${dark});`;
  });
  return `:root { ${colours.join(" ")} }`;
}

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

/** Whether an Accept header names HTML and weighs it no less than plain text. */
export function wantsPage(accept: string | undefined): boolean {
  const weights = { "text/html": 0, "text/plain": 0 };
  for (const part of (accept ?? "").split(",")) {
    const [type = "", ...parameters] = part.split(";").map((piece) => piece.trim().toLowerCase());
    if (!(type in weights)) continue;
    const quality = Number(parameters.find((one) => one.startsWith("q="))?.slice(2) ?? 1);
    weights[type as keyof typeof weights] = Number.isFinite(quality) ? quality : 0;
  }
  return weights["text/html"] > 0 && weights["text/html"] >= weights["text/plain"];
}
