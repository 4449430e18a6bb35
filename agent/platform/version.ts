// The version in package.json, which lies beside agent/ in the source tree and beside the bundle when packed.
import { readFileSync } from "node:fs";

/** The version of this program, such as `0.1.0`. */
export function programVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
