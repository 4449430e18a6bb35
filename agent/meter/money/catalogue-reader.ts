// Reads the parts of a catalogue file and gathers what is wrong with them. Money goes from decimal text to integers
// without passing through a double wherever the file gives text; a YAML number is read through its shortest decimal.

import type { UnixNanos } from "../../model.ts";
import type { CatalogueProblem, Validity } from "./catalogue.ts";

/** One entry of a list, with its place in the file. */
export interface RawEntry {
  readonly path: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

const decimalPattern = /^(\d+)(?:\.(\d+))?(?:[eE]\+?(\d+))?$/u;

/** `text` as an integer of 10^-digits, undefined when it is no decimal of at most that many digits. */
export function parseDecimal(text: string, digits: number): bigint | undefined {
  const match = decimalPattern.exec(text.trim().replaceAll("_", ""));
  if (match === null) return undefined;
  const [, whole = "", fraction = "", exponent = "0"] = match;
  if (Number(exponent) > 30) return undefined;
  const scale = digits + Number(exponent) - fraction.length;
  if (scale < 0) return undefined;
  return BigInt(whole + fraction) * 10n ** BigInt(scale);
}

/** Reads values and collects problems; what is wrong reads as a harmless value. */
export class CatalogueReader {
  readonly problems: CatalogueProblem[] = [];

  object(path: string, value: unknown, keys: readonly string[]): Readonly<Record<string, unknown>> {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      this.#problem(path === "" ? "(file)" : path, value, "an object");
      return {};
    }
    for (const key of Object.keys(value)) {
      if (keys.includes(key)) continue;
      this.problems.push({
        path: path === "" ? key : `${path}.${key}`,
        message: "unknown key",
        hint: `known here: ${keys.join(", ")}`,
      });
    }
    return value as Readonly<Record<string, unknown>>;
  }

  list(path: string, value: unknown, keys: readonly string[]): readonly RawEntry[] {
    if (value === undefined) return [];
    if (!Array.isArray(value)) {
      this.#problem(path, value, "a list");
      return [];
    }
    return value.map((one, index) => ({
      path: `${path}[${index}]`,
      fields: this.object(`${path}[${index}]`, one, keys),
    }));
  }

  text(path: string, value: unknown): string | undefined {
    if (typeof value === "string" && value !== "") return value;
    if (typeof value === "number") return String(value);
    this.#problem(path, value, "a text");
    return undefined;
  }

  required(entry: RawEntry, key: string): string {
    return this.text(`${entry.path}.${key}`, entry.fields[key]) ?? "";
  }

  optionalText(entry: RawEntry, key: string): string | undefined {
    return entry.fields[key] === undefined ? undefined : this.text(`${entry.path}.${key}`, entry.fields[key]);
  }

  flag(entry: RawEntry, key: string, absent: boolean): boolean {
    const value = entry.fields[key] ?? absent;
    if (typeof value === "boolean") return value;
    this.#problem(`${entry.path}.${key}`, value, "true or false");
    return absent;
  }

  /** Money in 1e-9 of the currency. */
  money(entry: RawEntry, key: string): bigint {
    return this.#decimal(entry, key, 9, "an amount of at most 9 decimals, not negative");
  }

  thousandths(entry: RawEntry, key: string, absent: bigint): bigint {
    if (entry.fields[key] === undefined) return absent;
    return this.#decimal(entry, key, 3, "a factor of at most 3 decimals");
  }

  count(entry: RawEntry, key: string): bigint {
    return this.#decimal(entry, key, 0, "a whole number");
  }

  oneOf<T>(entry: RawEntry, key: string, values: Readonly<Record<string, readonly T[]>>): readonly T[] {
    const value = entry.fields[key];
    const known = typeof value === "string" ? values[value] : undefined;
    if (known !== undefined) return known;
    this.#problem(`${entry.path}.${key}`, value, `one of ${Object.keys(values).join(", ")}`);
    return [];
  }

  validity(entry: RawEntry): Validity {
    const [from, to] = [this.#instant(entry, "from"), this.#instant(entry, "to")];
    if (from !== undefined && to !== undefined && to <= from) {
      this.problems.push({
        path: `${entry.path}.to`,
        message: `got ${String(entry.fields["to"])}, wanted an instant after from (${String(entry.fields["from"])})`,
      });
    }
    return { from, to };
  }

  /** The UTC day of an instant. */
  day(at: UnixNanos | undefined): string {
    return at === undefined ? "" : new Date(Number(at / 1_000_000n)).toISOString().slice(0, 10);
  }

  /** Refuses two entries of one name that hold at one instant. */
  overlaps<T extends Validity>(path: string, entries: readonly T[], nameOf: (entry: T) => string): void {
    for (const [index, one] of entries.entries()) {
      for (const [place, other] of entries.slice(0, index).entries()) {
        if (nameOf(one) !== nameOf(other) || !overlap(one, other)) continue;
        this.problems.push({
          path: `${path}[${index}]`,
          message: `holds at the same time as ${path}[${place}] (${nameOf(one)})`,
          hint: "give the earlier entry a `to` equal to the later entry's `from`; `to` is exclusive",
        });
      }
    }
  }

  #decimal(entry: RawEntry, key: string, digits: number, wanted: string): bigint {
    const value = entry.fields[key];
    const text = typeof value === "number" || typeof value === "string" ? String(value) : "";
    const parsed = parseDecimal(text, digits);
    if (parsed === undefined) this.#problem(`${entry.path}.${key}`, value, wanted);
    return parsed ?? 0n;
  }

  #instant(entry: RawEntry, key: string): UnixNanos | undefined {
    const value = entry.fields[key];
    if (value === undefined) return undefined;
    const text = value instanceof Date ? value.toISOString() : value;
    // Without a zone a date would mean another instant on every host.
    if (typeof text === "string" && /^\d{4}-\d{2}-\d{2}(T[\d:.]+(Z|[+-]\d{2}:\d{2}))?$/u.test(text)) {
      const millis = Date.parse(text);
      if (Number.isFinite(millis)) return BigInt(millis) * 1_000_000n;
    }
    this.#problem(`${entry.path}.${key}`, value, "a UTC day (2026-01-31) or an instant with its zone");
    return undefined;
  }

  #problem(path: string, seen: unknown, wanted: string): void {
    const shown = seen === undefined ? "nothing" : JSON.stringify(seen);
    this.problems.push({ path, message: `got ${shown}, wanted ${wanted}` });
  }
}

function overlap(one: Validity, other: Validity): boolean {
  const starts = (a: Validity, b: Validity): boolean =>
    a.from === undefined || b.to === undefined || a.from < b.to;
  return starts(one, other) && starts(other, one);
}
