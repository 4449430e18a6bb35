// The price catalogue named by `prices` in the configuration, as the meter uses it.

import type { Catalogue } from "../meter/money/catalogue.ts";
import { readCatalogue } from "../meter/money/catalogue.ts";
import { readConfigFile } from "./file.ts";
import { ConfigError } from "./load.ts";

/** Reads a catalogue file. Throws ConfigError with every problem found in it. */
export function readPrices(path: string): Catalogue {
  const file = readConfigFile(path);
  if (file.problems.length > 0) throw new ConfigError(file.problems);
  const { catalogue, problems } = readCatalogue(file.value);
  if (problems.length > 0) throw new ConfigError(problems.map((problem) => ({ ...problem, at: path })));
  return catalogue;
}
