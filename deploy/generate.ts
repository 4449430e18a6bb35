// Writes everything under deploy/ that is derived: `node deploy/generate.ts`. test/deploy/generated.test.ts fails when
// a committed file is stale.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chartValuesSchema } from "./chart-values-schema.ts";
import { rollupSql } from "./clickhouse/rollup.ts";
import { dashboardJson } from "./grafana/board.ts";
import { dashboards } from "./grafana/dashboards.ts";
import { gatewayManifests } from "./kubernetes/gateway.ts";
import { calendarFile } from "./prometheus/calendar-rules.ts";
import { recordingRules } from "./prometheus/recording-rules.ts";
import { queriesPage } from "./queries-page.ts";

/** Path under deploy/ to content. */
export function generated(): ReadonlyMap<string, string> {
  const alerts = readFileSync(new URL("prometheus/alerts.yaml", import.meta.url), "utf8");
  return new Map([
    ["prometheus/recording-rules.yaml", recordingRules()],
    ["prometheus/calendar-rules.yaml", calendarFile(["Europe/Berlin"])],
    // A chart sees only files of its own folder.
    ["chart/files/recording-rules.yaml", recordingRules()],
    ["chart/files/alerts.yaml", alerts],
    ["chart/values.schema.json", chartValuesSchema()],
    ["clickhouse/rollup.sql", rollupSql()],
    ["docs/queries.md", queriesPage()],
    ["kubernetes/otel-gateway.yaml", gatewayManifests()],
    ...Object.entries(dashboards).flatMap(([name, dashboard]): [string, string][] => [
      [`grafana/${name}.json`, dashboardJson(dashboard)],
      [`chart/files/dashboards/${name}.json`, dashboardJson(dashboard)],
    ]),
  ]);
}

if (import.meta.main) {
  for (const [path, text] of generated()) writeFileSync(fileURLToPath(new URL(path, import.meta.url)), text);
}
