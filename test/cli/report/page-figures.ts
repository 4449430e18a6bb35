// Reads the figures of a report's page back: the exact values that stand behind what is shown.

const entities: Readonly<Record<string, string>> = {
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&#39;": "'",
  "&amp;": "&",
};

function textOf(html: string): string {
  return html.replaceAll(/&(?:lt|gt|quot|amp|#39);/g, (found) => entities[found] ?? found);
}

/** The figures inside some of the page, by row: key (and currency), value. */
export function figuresOf(html: string): ReadonlyMap<string, readonly (readonly [string, string])[]> {
  const rows = new Map<string, (readonly [string, string])[]>();
  for (const part of html.split(/(?=data-row=")/)) {
    const row = textOf(/^data-row="([^"]*)"/.exec(part)?.[1] ?? "");
    const own = rows.get(row) ?? [];
    for (const found of part.matchAll(
      /data-key="([^"]*)"(?: data-currency="([^"]*)")? data-value="([^"]*)"/g,
    ))
      own.push([[found[1], found[2]].filter((text) => text !== undefined).join(" "), textOf(found[3] ?? "")]);
    rows.set(row, own);
  }
  return rows;
}
