// `tokenwatt metrics`: the table of everything exported, the same that export/METRICS.md and the encoder are made from.
import type { Command } from "commander";
import type { Io } from "./common/io.ts";
import { printLine } from "./common/io.ts";

interface MetricsOptions {
  readonly json?: boolean;
  readonly markdown?: boolean;
  readonly prometheus?: boolean;
}

/** Adds `tokenwatt metrics`. */
export function register(program: Command, io: Io): void {
  program
    .command("metrics")
    .description("list every metric with type, unit, attributes and meaning")
    .option("--json", "print one JSON array")
    .option("--markdown", "print the page METRICS.md")
    .option("--prometheus", "names and labels as on /metrics")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt metrics
  tokenwatt metrics --prometheus | grep energy
  tokenwatt metrics --json | jq -r '.[] | select(.unit == "J") | .name'`,
    )
    .action((options: MetricsOptions) => list(options, io));
}

async function list(options: MetricsOptions, io: Io): Promise<void> {
  const { metrics } = await import("../export/metrics/metrics.ts");
  const { prometheusLabel, prometheusName } = await import("../export/metrics/prometheus-names.ts");
  const { formatTable } = await import("./common/table.ts");
  if (options.markdown === true) {
    const { metricsPage } = await import("../export/metrics/page.ts");
    io.stdout.write(metricsPage());
    return;
  }
  if (options.json === true) {
    const rows = metrics.map((metric) => {
      const { ledger: _, ...shown } = metric;
      return { ...shown, prometheus_name: prometheusName(metric) };
    });
    printLine(io, JSON.stringify(rows, undefined, 2));
    return;
  }
  const rows = metrics.map((metric) => [
    options.prometheus === true ? prometheusName(metric) : metric.name,
    metric.kind,
    metric.unit,
    metric.attributes.map((key) => (options.prometheus === true ? prometheusLabel(key) : key)).join(","),
  ]);
  printLine(io, formatTable([["name", "type", "unit", "attributes"], ...rows]));
}
