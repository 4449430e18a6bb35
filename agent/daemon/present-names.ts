// Servers that were given no name were once called `vllm@http://localhost:8000/metrics`. What an earlier version stored
// under such a name goes on under the present one, `vllm:8000`: bases and ids must outlive an upgrade.
import type { StateRow } from "../model.ts";
import { serverName } from "../platform/address.ts";

const OLD_NAME = /^([a-z0-9-]+)@((?:https?:\/\/|localhost:|127\.|\[|[\w.-]+:\d).*)$/;

/** The rows under present names. A row that is there under the present name already wins over its old one. */
export function underPresentNames(rows: readonly StateRow[]): readonly StateRow[] {
  const present = new Set(rows.map(({ key }) => key));
  return rows.flatMap((row) => {
    const key = presentKey(row.key);
    if (key === row.key) return [row];
    return present.has(key) ? [] : [{ ...row, key }];
  });
}

/** Keys of a server's rows are lists: the kind, the server, and what the row is about. */
function presentKey(key: string): string {
  if (!/^\["(?:sample|receiver)","/.test(key)) return key;
  const [kind, server, ...rest] = JSON.parse(key) as [string, string, ...unknown[]];
  const [, type, address] = OLD_NAME.exec(server) ?? [];
  if (type === undefined || address === undefined) return key;
  return JSON.stringify([kind, serverName(type, address), ...rest]);
}
