// What a metric page is: the server type that recognises it, or what can be said of one that none does.
import { parsePage } from "../page/parse.ts";
import { mergedBy } from "../servers/page/merged.ts";
import { findTokenFamilies } from "../servers/page/token-families.ts";
import { serverTypes } from "../servers/registry.ts";
import type { MetricPage, PageReader } from "../source.ts";

/** A server type that recognises a page. */
export interface Recognised {
  readonly type: string;
  readonly why: string;
  readonly page: PageReader;
}

/** The type that recognises a page; undefined where none does. */
export function recognise(page: MetricPage): Recognised | undefined {
  for (const { name, page: reader } of serverTypes) {
    const why = reader?.recognises(page);
    if (reader !== undefined && why !== undefined) return { type: name, why, page: reader };
  }
  return undefined;
}

/** One sentence on a page that the reader of `type` found no tokens in; undefined where there is nothing to say. */
export function explainPage(bytes: Uint8Array, type: string): string | undefined {
  const page = parsePage(bytes);
  const known = recognise(page);
  if (known?.type === type) return undefined;
  if (known !== undefined) return `the page looks like ${known.type} (${known.why})`;
  return mergedBy(page) ?? explainUnknown(bytes, page);
}

/** What an unknown page has that looks like tokens, and what to do with it; undefined where it has nothing. */
export function explainUnknown(bytes: Uint8Array, page: MetricPage): string | undefined {
  const metrics = [...new Set(findTokenFamilies(bytes, page).map(({ metric }) => metric))];
  if (metrics.length === 0) return undefined;
  const shown = metrics.slice(0, 5).join(", ");
  const more = metrics.length > 5 ? ` and ${metrics.length - 5} more` : "";
  return `it has families that look like tokens (${shown}${more}): map them with prometheus-generic; \`tokenwatt probe\` prints a mapping to start from`;
}
