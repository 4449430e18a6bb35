// JSON of lists whose items write themselves: one text at once. A text put together of texts is to V8 a tree of them until it
// is read, and then a copy of all of it, which for rows that wait for the disk is made in the old generation.

/** The items as one JSON array, each by what `textOf` says. */
export function listText<Item>(items: readonly Item[], textOf: (item: Item) => string): string {
  const parts: string[] = [];
  for (let place = 0; place < items.length; place++)
    parts.push(place === 0 ? "[" : ",", textOf(items[place] as Item));
  parts.push(items.length === 0 ? "[]" : "]");
  return parts.join("");
}
