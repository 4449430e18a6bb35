// What a server serves, as far as a rate that is learned of it depends on that: another model of the same server, or another
// product under it, makes another rate, and one must not be told by the other.

/** What a learned rate is of: another model, or another product, makes another rate of the same server. */
export interface Served {
  readonly server: string;
  readonly model: string | undefined;
  readonly product: string | undefined;
}

/** The name under which it is kept. */
export function keyOf({ model = "", product = "", server }: Served): string {
  return JSON.stringify([server, model, product]);
}

/** The server in such a name. */
export function serverOf(key: string): string {
  return (JSON.parse(key) as readonly string[])[0] ?? "";
}
