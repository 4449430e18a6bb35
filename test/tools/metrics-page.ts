// Writes agent/export/METRICS.md from the metrics table. Run by `npm run generate`.
import { writeFileSync } from "node:fs";
import { metricsPage } from "../../agent/export/metrics/page.ts";

writeFileSync(new URL("../../agent/export/METRICS.md", import.meta.url), metricsPage());
