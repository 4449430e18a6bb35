// `tokenwatt report`: totals and key figures from the ledger, for any range, calendar and group.
// Reads the ledger file beside the running agent; needs no daemon and changes nothing.
import type { Command } from "commander";
import type { PeriodUnit } from "../meter/figures/calendar.ts";
import type { Group, Plan, ReportSource } from "../meter/figures/report.ts";
import type { LedgerReader } from "../store/ledger/reader.ts";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions, loadConfigFor } from "./common/config-options.ts";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { printLine, tell } from "./common/io.ts";
import type { ReportRange } from "./report/range.ts";

const FORMATS = ["table", "csv", "json", "focus", "cloudevents"] as const;
const UNITS: readonly string[] = ["hour", "day", "month"];

interface ReportOptions extends ConfigOptions {
  readonly by?: string;
  readonly from?: string;
  readonly to?: string;
  readonly timeZone: string;
  readonly format: (typeof FORMATS)[number];
  readonly json?: boolean;
  readonly source?: ReportSource;
  readonly stateDir?: string;
}

/** Adds `tokenwatt report`. */
export function register(program: Command, io: Io): void {
  const command = program.command("report").description("totals and key figures from the ledger");
  addConfigOptions(command)
    .option(
      "--by <list>",
      "hour, day or month, and any of tenant, model, endpoint, gpu_type, gpu, server, kind, outcome, state",
    )
    .option(
      "--from <time>",
      "start: today, yesterday, 2026-11, 2026-11-01, 2026-11-01T06:15Z (default: today)",
    )
    .option("--to <time>", "end, exclusive (default: as far as the ledger goes)")
    .option("--time-zone <name>", "calendar of hours, days and months, for example Asia/Kathmandu", "UTC")
    .option("--source <family>", "engine, or gateway (default where grouped by tenant or endpoint)")
    .option("--format <name>", FORMATS.join(", "), "table")
    .option("--json", "the same as --format json")
    .option("--state-dir <folder>", "where the ledger lies (default: stateDir of the configuration)")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt report --by day,model --from 2026-11-01 --to 2026-12-01
  tokenwatt report --by tenant,model --from yesterday --to today --time-zone Europe/Berlin --format csv
  tokenwatt report --format cloudevents --from 2026-11-01T00:00Z | curl --data-binary @- ...`,
    )
    .action((options: ReportOptions) => report(options, io));
}

async function report(options: ReportOptions, io: Io): Promise<void> {
  const { planReport } = await import("../meter/figures/report.ts");
  const { readRange } = await import("./report/range.ts");
  const format = options.json === true ? "json" : options.format;
  if (!FORMATS.includes(format)) {
    throw new UsageError(`Cannot write --format "${String(format)}"`, `wanted one of ${FORMATS.join(", ")}`);
  }
  const { groups, unit } = readGroups(options.by ?? "");
  const source = readSource(options.source, groups);
  const plan = planReport(groups, source);
  const nothing = plan.time === undefined && plan.cost === undefined;
  if (plan.tokens === undefined && (nothing || options.source !== undefined)) throw noAnswer(groups, source);
  const reader = await openLedger(options, io);
  try {
    const range = readRange(options, unit, Number((reader.time ?? 0n) / 1_000_000n));
    await write(format, { reader, range, plan, groups, source, hasPeriods: unit !== undefined }, io);
  } finally {
    reader.close();
  }
}

/** The ledger of the configured state directory, open for reading. */
export async function openLedger(
  options: ConfigOptions & { readonly stateDir?: string },
  io: Io,
): Promise<LedgerReader> {
  const { LedgerReader } = await import("../store/ledger/reader.ts");
  return new LedgerReader(await ledgerFile(options, io));
}

/** The ledger file of `--state-dir`, or of the configuration. */
export async function ledgerFile(
  options: ConfigOptions & { readonly stateDir?: string },
  io: Io,
): Promise<string> {
  const { ledgerPath } = await import("../store/state-folder.ts");
  return ledgerPath(options.stateDir ?? (await loadConfigFor(options, io)).config.stateDir);
}

interface Work {
  readonly reader: LedgerReader;
  readonly range: ReportRange;
  readonly plan: Plan;
  readonly groups: readonly Group[];
  readonly source: ReportSource;
  readonly hasPeriods: boolean;
}

async function write(format: ReportOptions["format"], work: Work, io: Io): Promise<void> {
  const { groups, hasPeriods, plan, range, reader, source } = work;
  if (format === "focus" || format === "cloudevents") {
    const { cloudEvents, focusCsv } = await import("./report/exchange.ts");
    if (format === "cloudevents") {
      for (const event of cloudEvents(reader, range, source)) printLine(io, event);
      return;
    }
    const { text, unpriced } = focusCsv(reader, range, source);
    printLine(io, text);
    if (unpriced > 0) tell(io, `${unpriced} rows have no cost: the price catalogue holds no price for them`);
    return;
  }
  const { reportEntries } = await import("./report/groups.ts");
  const { reportCsv, reportObject, reportTable } = await import("./report/formats.ts");
  const entries = reportEntries(reader, plan, groups, range.periods);
  if (format === "json") {
    const lines = entries.map((entry) => reportObject(entry, plan, groups));
    const { from, to, zone } = range;
    const head = {
      from: new Date(from).toISOString(),
      to: new Date(to).toISOString(),
      time_zone: zone,
      source,
    };
    printLine(io, JSON.stringify({ ...head, by: groups, lines }));
  } else if (format === "csv") printLine(io, reportCsv(entries, plan, groups, hasPeriods));
  else {
    printLine(io, reportTable(entries, plan, groups, hasPeriods));
    const period = `${new Date(range.from).toISOString()} to ${new Date(range.to).toISOString()}`;
    tell(io, `${period}, ${source} tokens, days of ${range.zone}`);
  }
}

function readGroups(text: string): {
  readonly groups: readonly Group[];
  readonly unit: PeriodUnit | undefined;
} {
  const known: readonly string[] = [
    "tenant",
    "model",
    "endpoint",
    "gpu_type",
    "gpu",
    "server",
    "kind",
    "outcome",
    "state",
  ];
  const words = text
    .split(",")
    .map((word) => word.trim().replaceAll("-", "_"))
    .filter((word) => word !== "");
  const wrong = words.filter((word) => !known.includes(word) && !UNITS.includes(word));
  if (wrong.length > 0) {
    throw new UsageError(
      `Cannot group by "${wrong.join('", "')}"`,
      `known: ${[...UNITS, ...known].join(", ")}`,
    );
  }
  const units = words.filter((word) => UNITS.includes(word));
  if (units.length > 1)
    throw new UsageError(`Cannot group by ${units.join(" and ")} at once`, "name one of them");
  const groups = [...new Set(words.filter((word) => known.includes(word)))] as Group[];
  return { groups, unit: units[0] as PeriodUnit | undefined };
}

function readSource(given: string | undefined, groups: readonly Group[]): ReportSource {
  if (given === undefined)
    return groups.includes("tenant") || groups.includes("endpoint") ? "gateway" : "engine";
  if (given === "engine" || given === "gateway") return given;
  throw new UsageError(`Cannot use --source "${given}"`, "wanted engine or gateway");
}

function noAnswer(groups: readonly Group[], source: ReportSource): UsageError {
  const other = source === "engine" ? "gateway" : "engine";
  return new UsageError(
    `Cannot group ${source} figures by ${groups.join(" and ")}: nothing the ledger keeps carries all of them`,
    `try --source ${other}, or fewer groups: engines know server, model, gpu_type and kind; gateways tenant, model, endpoint, kind and outcome`,
  );
}
