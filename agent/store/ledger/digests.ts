// Stored texts: SHA-256 over canonical text (a bucket's rows, a series' identity, the chain of the audit record), and
// histograms as JSON, added bucket by bucket where their bounds are equal.
// The same bytes on every host: keys sorted, integers in decimal, one line per row.
import { createHash, hash } from "node:crypto";
import type { AuditEntry, BucketNumber, Dimensions, Histogram } from "../../model.ts";

/** Hash the chain begins with. */
export const chainStart = "0".repeat(64);

/** Attributes as JSON with sorted keys. */
export function dimensionsText(dimensions: Dimensions): string {
  return JSON.stringify(Object.fromEntries(Object.entries(dimensions).sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** JSON with sorted keys all the way down; bigint as a decimal text. */
export function canonicalText(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner === "bigint") return String(inner);
    if (typeof inner !== "object" || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/** The first 16 digits of a text's SHA-256. */
export function checkOf(...parts: readonly string[]): string {
  return sha256(parts.join("\n")).slice(0, 16);
}

/** Hash of an audit entry that follows the entry with hash `previous`. */
export function chainHash(previous: string, sequence: number, entry: AuditEntry, body: string): string {
  return sha256([previous, String(sequence), entry.at, entry.kind, body].join("\n"));
}

/** Deterministic id of a bucket row for receivers: the same row has the same id however often it is delivered. */
export function rowId(
  agent: string,
  row: {
    readonly metric: string;
    readonly dimensions: string;
    readonly bucket: BucketNumber;
    readonly revision: number;
  },
): string {
  return sha256(
    [agent, row.metric, row.dimensions, String(row.bucket), String(row.revision)].join("\n"),
  ).slice(0, 32);
}

/** A stored row with the identity of its series. */
export interface DigestRow {
  readonly series: number;
  readonly identity: string;
  readonly revision: number;
  /** Decimal amount, or the histogram's JSON. */
  readonly value: string;
}

/** What a bucket is sealed with. */
interface BucketDigest {
  readonly digest: string;
  /** Two bytes per row that tell which row does not fit. */
  readonly checks: Uint8Array;
  readonly count: number;
}

/** Digest of a bucket over its rows, added in order of series. */
export class BucketHash {
  readonly #all = createHash("sha256");
  readonly #checks: number[] = [];

  constructor(bucket: BucketNumber) {
    this.#all.update(`${bucket}\n`);
  }

  add(row: DigestRow): void {
    const text = `${row.series} ${row.identity} ${row.revision} ${row.value}\n`;
    this.#all.update(text);
    const one = hash("sha256", text, "buffer");
    this.#checks.push(one[0] ?? 0, one[1] ?? 0);
  }

  /** To be called once, after the last row. */
  end(): BucketDigest {
    const checks = Uint8Array.from(this.#checks);
    return { digest: this.#all.digest("hex"), checks, count: checks.length / 2 };
  }
}

/** In one call: an object for each text costs more than the digest of a short one. */
function sha256(text: string): string {
  return hash("sha256", text, "hex");
}

/** The sum of two stored histograms; where the bounds changed the later one stands alone. */
export function addHistogramTexts(one: string | undefined, other: string): string {
  return one === undefined ? other : JSON.stringify(addStored(JSON.parse(one), JSON.parse(other)));
}

/** The same on parsed histograms; with `sign` -1 the other is taken off. */
export function addStored(one: Histogram, other: Histogram, sign: 1 | -1 = 1): Histogram {
  if (String(one.bounds) !== String(other.bounds)) return sign === 1 ? other : one;
  return {
    bounds: one.bounds,
    counts: one.counts.map((count, bucket) => count + sign * (other.counts[bucket] ?? 0)),
    sum: Math.max(0, one.sum + sign * other.sum),
    count: one.count + sign * other.count,
  };
}
