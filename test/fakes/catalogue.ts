// A price catalogue as the price file gives it, from plain data.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readPrices } from "../../agent/config/prices.ts";
import type { Catalogue } from "../../agent/meter/money/catalogue.ts";

/** The catalogue in a price file that holds `file`. Throws ConfigError. */
export function catalogueOf(file: object | string): Catalogue {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-prices-"));
  try {
    const path = join(folder, "prices.yaml");
    writeFileSync(path, typeof file === "string" ? file : JSON.stringify(file));
    return readPrices(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
