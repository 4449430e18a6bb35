// What an earlier version stored goes on under the names of today: bases, ids and totals must outlive an upgrade.
// Servers that were given no name were once called `vllm@http://localhost:8000/metrics`, now `vllm:8000`. Attribute keys
// without a namespace got one, and hw.* series more of what the conventions want. The file itself keeps the old names:
// closed buckets are sealed by what they say.
import type { Dimensions, SeriesState, StateRow } from "../model.ts";
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

const PRESENT_KEYS: Readonly<Record<string, string>> = {
  reason: "tokenwatt.reason",
  code: "tokenwatt.xid.code",
};

/**
 * The series under present attributes, with their totals. One that is there under them already keeps its name, and the
 * one of old its own: it books nothing any more and ends.
 */
export function underPresentAttributes(series: readonly SeriesState[]): readonly SeriesState[] {
  const present = new Set(series.map(identity));
  return series.map((one) => {
    const renamed = { ...one, dimensions: presentDimensions(one) };
    const moved = identity(renamed);
    if (present.has(moved)) return one;
    present.add(moved);
    return renamed;
  });
}

function presentDimensions({ dimensions, metric }: SeriesState): Dimensions {
  const renamed: Record<string, string> = {};
  for (const [key, value] of Object.entries(dimensions)) renamed[PRESENT_KEYS[key] ?? key] = value;
  if (metric === "hw.host.energy") renamed["hw.id"] = "host";
  if (renamed["hw.type"] === "gpu") renamed["hw.vendor"] = "NVIDIA";
  return renamed;
}

function identity({ dimensions, metric, role }: SeriesState): string {
  return JSON.stringify([metric, role, Object.entries(dimensions).sort()]);
}
