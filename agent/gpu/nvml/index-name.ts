// What a reader calls a GPU whose UUID it does not know yet.

const PREFIX = "index ";

/** `index 3`. */
export function indexName(index: number): string {
  return `${PREFIX}${index}`;
}

/** The index in such a name; undefined for a UUID. */
export function indexOf(name: string | undefined): number | undefined {
  return name?.startsWith(PREFIX) ? Number(name.slice(PREFIX.length)) : undefined;
}
