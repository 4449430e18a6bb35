// RFC 4180 as a receiver reads it: lines of cells under the names of the first one.

/** The rows of a CSV text, each by the names of its header. */
export function parseCsv(text: string): readonly { [name: string]: string }[] {
  const rows: string[][] = [[]];
  let [cell, quoted] = ["", false];
  const endCell = (): void => {
    rows.at(-1)?.push(cell);
    cell = "";
  };
  for (let place = 0; place < text.length; place++) {
    const character = text[place];
    if (quoted && character === '"' && text[place + 1] === '"') {
      cell += '"';
      place++;
    } else if (character === '"') quoted = !quoted;
    else if (quoted) cell += character;
    else if (character === ",") endCell();
    else if (character === "\n") {
      endCell();
      rows.push([]);
    } else if (character !== "\r") cell += character;
  }
  if (cell !== "") endCell();
  const [head = [], ...lines] = rows.filter((row) => row.length > 1);
  return lines.map((row) => Object.fromEntries(head.map((name, index) => [name, row[index] ?? ""])));
}
