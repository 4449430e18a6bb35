// What is derived is committed as it is derived. A source that is new in the agent is not yet in the chart's schema: that is
// judged in the separate suite, so that adding one is a file, a line and a recording. All else that has changed is told here.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { generated } from "../../deploy/generate.ts";

const deploy = fileURLToPath(new URL("../../deploy/", import.meta.url));

interface Schema {
  properties: { config: { properties: { servers: { properties: Record<string, unknown> } } } };
}

/** `fresh` without the sources that `committed` does not have yet, if they are schemas of the chart's values. */
function known(path: string, committed: string, fresh: string): unknown {
  if (!path.endsWith("values.schema.json")) return fresh;
  const schema = JSON.parse(fresh) as Schema;
  const had = (JSON.parse(committed) as Schema).properties.config.properties.servers.properties;
  const { servers } = schema.properties.config.properties;
  servers.properties = Object.fromEntries(
    Object.entries(servers.properties).filter(([source]) => source in had),
  );
  return `${JSON.stringify(schema, null, 1)}\n`;
}

test.each([...generated()])("deploy/%s is what deploy/generate.ts writes", (path, text) => {
  const committed = readFileSync(deploy + path, "utf8");
  expect(committed === known(path, committed, text), "stale: run npm run generate").toBe(true);
});
