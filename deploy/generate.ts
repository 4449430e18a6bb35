// Writes everything under deploy/ that is derived: `node deploy/generate.ts`. test/deploy/generated.test.ts fails when
// a committed file is stale.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { recordingRules } from "./prometheus/recording-rules.ts";

/** Path under deploy/ to content. */
export function generated(): ReadonlyMap<string, string> {
  return new Map([["prometheus/recording-rules.yaml", recordingRules()]]);
}

if (import.meta.main) {
  for (const [path, text] of generated()) writeFileSync(fileURLToPath(new URL(path, import.meta.url)), text);
}
