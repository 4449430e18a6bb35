// How fast a pushed request of 10,000 GenAI points is received (decoded, told apart, counted), against only decoding it
// with @bufbuild/protobuf in the same run. Run with `node test/bench/otlp-receive.ts`.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** One line of facts for the bench's report. */
export function benchOtlpReceive(): Readonly<Record<string, number>> {
  const child = fileURLToPath(new URL("./lib/otlp-receive-child.ts", import.meta.url));
  const flags = ["--no-warnings", "--experimental-transform-types"];
  return JSON.parse(execFileSync(process.execPath, [...flags, child], { encoding: "utf8" }));
}

if (import.meta.main) console.log(JSON.stringify({ bench: "otlp-receive", ...benchOtlpReceive() }));
