// What is derived is committed as it is derived. The agent's configuration schema inside the chart's follows every change
// of a source, so its freshness is judged in the separate suite; here only its frame.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { generated } from "../../deploy/generate.ts";

const deploy = fileURLToPath(new URL("../../deploy/", import.meta.url));

function frame(path: string, text: string): string {
  if (!path.endsWith("values.schema.json")) return text;
  const schema = JSON.parse(text) as { properties: Record<string, unknown> };
  return JSON.stringify({ ...schema, properties: { ...schema.properties, config: {} } });
}

test.each([...generated()])("deploy/%s is what deploy/generate.ts writes", (path, text) => {
  const same = frame(path, readFileSync(deploy + path, "utf8")) === frame(path, text);
  expect(same, "stale: run npm run generate").toBe(true);
});
