// `tokenwatt report`: totals and key figures from the ledger, for any range, calendar and group.
// Reads the ledger file beside the running agent; needs no daemon and changes nothing.
import type { Command } from "commander";
import type { Group, ReportSource } from "../meter/figures/report-plan.ts";
import { bucketMillis } from "../meter/ledger/grid.ts";
import type { LedgerReader } from "../store/ledger/reader.ts";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions, loadConfigFor } from "./common/config-options.ts";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { printLine, tell } from "./common/io.ts";
import type { Progress } from "./common/progress.ts";
import type { Question } from "./report/groups.ts";
import type { ReportFormat } from "./report/options.ts";
import { readGroups, readSource, readWhere, refuseWhatIsNotDone, reportFormats } from "./report/options.ts";
import type { ReportRange } from "./report/range.ts";
import type { LedgerView } from "./report/repriced.ts";

interface ReportOptions extends ConfigOptions {
  readonly by?: string;
  readonly from?: string;
  readonly to?: string;
  readonly timeZone: string;
  readonly format: ReportFormat;
  readonly json?: boolean;
  readonly source?: ReportSource;
  readonly where: readonly string[];
  readonly sort?: string;
  readonly top?: string;
  readonly waste?: boolean;
  readonly reprice?: string;
  readonly output?: string;
  readonly stateDir?: string;
}

/** Adds `tokenwatt report`. */
export function register(program: Command, io: Io): void {
  const command = program.command("report").description("totals and key figures from the ledger");
  addConfigOptions(command)
    .option(
      "--by <list>",
      "hour, day, week or month, and any of tenant, model, endpoint, gpu_type, gpu, server, kind, outcome, state, power_limit",
    )
    .option(
      "--from <time>",
      "start: today, yesterday, 7d, 24h, last-week, last-month, 2026-11, 2026-11-01, 2026-11-01T06:15Z (default: today)",
    )
    .option("--to <time>", "end, exclusive (default: as far as the ledger goes)")
    .option(
      "--time-zone <name>",
      "calendar of hours, days, weeks and months, for example Asia/Kathmandu",
      "UTC",
    )
    .option("--source <family>", "engine, or gateway (default where grouped by tenant or endpoint)")
    .option("--where <group=name>", "only this tenant, model, ...; may be given again", collect, [])
    .option("--sort <column>", "largest first by a column of the CSV, for example revenue")
    .option("--top <number>", "the first lines only; the total stays that of all")
    .option("--waste", "hours and money of GPUs that were held or free and made nothing, by server and GPU")
    .option("--reprice <file>", "revenue as this price file would have it; nothing is changed")
    .option("--format <name>", reportFormats.join(", "), "table")
    .option("--json", "the same as --format json")
    .option("-o, --output <file>", "write there, replacing what it was (default: standard output)")
    .option("--state-dir <folder>", "where the ledger lies (default: stateDir of the configuration)")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt report --by day,model --from 2026-11-01 --to 2026-12-01
  tokenwatt report --by tenant --from last-month --time-zone Europe/Berlin --sort revenue --top 10
  tokenwatt report --by tenant,model --where tenant=acme --from 7d --format csv
  tokenwatt report --by power_limit,gpu_type --from 7d
  tokenwatt report --format html --from last-week -o week.html
  tokenwatt report --format focus --from last-month > charges.csv
  tokenwatt report --format cloudevents --from 2026-11-01T00:00Z | curl --data-binary @- ...`,
    )
    .action(async (options: ReportOptions) => {
      if (options.output === undefined) return await report(options, io);
      const { writeWhole } = await import("./report/output.ts");
      return await writeWhole(options.output, io, (to) => report(options, to));
    });
}

function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

async function report(options: ReportOptions, io: Io): Promise<void> {
  const { readRange } = await import("./report/range.ts");
  const format = options.json === true ? "json" : options.format;
  if (!reportFormats.includes(format)) {
    const known = reportFormats.join(", ");
    throw new UsageError(`Cannot write --format "${String(format)}"`, `wanted one of ${known}`);
  }
  const { groups, unit } = readGroups(options.by ?? "");
  const where = options.where.map(readWhere);
  const given = readSource(options.source);
  refuseWhatIsNotDone({ format, groups, where, options });
  const reader = await openLedger(options, io);
  try {
    const now = Number((reader.time ?? 0n) / 1_000_000n);
    const range = readRange(options, unit, now);
    const view = await repricedBy(options.reprice, reader, io);
    if (format === "focus" || format === "cloudevents") {
      if (groups.length > 0)
        tell(io, `--by ${groups.join(",")} changes no row of ${format}: ${rowsOf[format]}`);
      await exchange(format, { reader: view, range, where, source: given ?? billedSource(reader) }, io);
    } else if (format === "html") {
      const { htmlReport } = await import("./report/html/page.ts");
      const { policyOf } = await import("./report/policy.ts");
      const progress = await progressOn(io);
      const page = htmlReport(view, {
        range: readRange(options, undefined, now),
        ...{ unit, where, progress: progress.at, policy: await policyOf(options, io) },
      });
      progress.end();
      printLine(io, page);
    } else if (options.waste === true) {
      const { wasteReport } = await import("./report/waste.ts");
      const { sort, top } = options;
      const { left, text } = wasteReport(reader, { range, where, sort, top, width: widthOf(io) }, format);
      printLine(io, text);
      if (left > 0) tell(io, `${left} more lines are in the total and not shown`);
    } else {
      const hasPeriods = unit !== undefined;
      await figures(format, { options, reader: view, range, groups, where, given, hasPeriods }, io);
    }
    tellIfEmpty(reader, range, io);
    if (reader.rowsWait)
      tell(
        io,
        "rows of the newest buckets wait in the agent's memory: the disk is nearly full, figures lack them",
      );
  } finally {
    reader.close();
  }
}

/** The ledger under another price file, where one is named. */
async function repricedBy(file: string | undefined, reader: LedgerReader, io: Io): Promise<LedgerView> {
  if (file === undefined) return reader;
  const { readPrices } = await import("../config/prices.ts");
  const { repriced } = await import("./report/repriced.ts");
  const catalogue = readPrices(file);
  tell(io, `revenue at the prices of ${file} (${catalogue.version}), costs as they were booked`);
  const metric = billedSource(reader) === "gateway" ? "tokenwatt.gateway.tokens" : "tokenwatt.tokens";
  return repriced(reader, catalogue, metric);
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
  readonly options: ReportOptions;
  readonly reader: LedgerView;
  readonly range: ReportRange;
  readonly groups: readonly Group[];
  readonly where: Question["where"];
  readonly given: ReportSource | undefined;
  readonly hasPeriods: boolean;
}

/** A bar for what takes long, where there is a screen. */
export async function progressOn(io: Io): Promise<Progress> {
  const { startProgress } = await import("./common/progress.ts");
  const { systemClock } = await import("../platform/clock.ts");
  return startProgress({ ...io, clock: systemClock() });
}

async function figures(format: "table" | "csv" | "json", work: Work, io: Io): Promise<void> {
  const { planReport } = await import("../meter/figures/report-plan.ts");
  const { readReport } = await import("./report/groups.ts");
  const { arrange } = await import("./report/arrange.ts");
  const { mayHaveQuotas, withQuotas } = await import("./report/quotas.ts");
  const { policyOf } = await import("./report/policy.ts");
  const { assumptionLine, assumptionsOf } = await import("./report/uncertain.ts");
  const { lineObject, reportCsv, reportObject, reportTable } = await import("./report/formats.ts");
  const { groups, hasPeriods, options, range, reader, where } = work;
  const named = [...new Set([...groups, ...where.map(([group]) => group)])];
  const source = work.given ?? defaultSource(named, reader);
  const plan = planReport(named, source);
  const nothing = plan.time === undefined && plan.cost === undefined && plan.priced.length === 0;
  if (plan.tokens === undefined && (nothing || options.source !== undefined)) throw noAnswer(named, source);
  const progress = await progressOn(io);
  const answer = readReport(reader, { plan, groups, where, periods: range.periods, progress: progress.at });
  progress.end();
  const policy = mayHaveQuotas(groups) ? await policyOf(options, io) : undefined;
  const layout = { plan, groups, hasPeriods, hasQuotas: policy !== undefined };
  const lines =
    policy === undefined
      ? answer.entries.map((entry) => ({ ...entry, quotas: [] }))
      : withQuotas(answer.entries, reader, { policy, groups, source });
  const { entries, left } = arrange(lines, layout, options);
  const uncertain = plan.uncertainTime === undefined ? null : assumptionsOf(reader, range, where);
  if (format === "csv") printLine(io, reportCsv(entries, layout));
  else if (format === "json") {
    const head = { from: iso(range.from), to: iso(range.to), time_zone: range.zone, source, by: groups };
    const until = answer.settledUntil === undefined ? {} : { settled_until: iso(answer.settledUntil) };
    const lines = entries.map((entry) => reportObject(entry, layout));
    const total = lineObject(answer.total, plan);
    printLine(io, JSON.stringify({ ...head, ...until, lines, total, uncertain }));
  } else {
    printLine(io, reportTable(entries, answer.total, layout, widthOf(io)));
    tell(io, `${iso(range.from)} to ${iso(range.to)}, ${source} tokens, days of ${range.zone}`);
    for (const assumption of uncertain ?? []) tell(io, assumptionLine(assumption));
    if (policy !== undefined && policy.zone !== range.zone && lines.some(({ quotas }) => quotas.length > 0))
      tell(io, `windows of quotas are of ${policy.zone}: --time-zone ${policy.zone} makes both meet`);
  }
  if (left > 0) tell(io, `${left} more lines are in the total and not shown`);
  if (format === "json") return;
  if (answer.settledUntil !== undefined) {
    const isNone = answer.settledUntil <= range.from;
    tell(
      io,
      isNone
        ? "GPU time and what follows from it is shared out when a quarter of an hour is closed: none of this range is yet"
        : `GPU time and what follows from it is known until ${iso(answer.settledUntil)}`,
    );
  }
  const { unpricedTokens } = answer.total;
  if (unpricedTokens > 0n && answer.total.money.length > 0) {
    tell(io, `${unpricedTokens} tokens of customers have no price and are not in the revenue`);
  }
}

const rowsOf = {
  focus:
    "a row is one tenant, endpoint, model, kind, outcome and price; --by chooses hours, days, weeks or months",
  cloudevents: "an event is a quarter of an hour of one tenant, endpoint, model, kind, outcome and price",
} as const;

interface Exchange {
  readonly reader: LedgerView;
  readonly range: ReportRange;
  readonly source: ReportSource;
  readonly where: Question["where"];
}

async function exchange(
  format: "focus" | "cloudevents",
  { range, reader, source, where }: Exchange,
  io: Io,
): Promise<void> {
  if (format === "cloudevents") {
    const { cloudEvents } = await import("./report/exchange.ts");
    for (const event of cloudEvents(reader, range, source, where)) printLine(io, event);
    return;
  }
  const { writeFocus } = await import("./report/focus.ts");
  const focus = writeFocus(reader, range, source, where, (text) => io.stdout.write(`${text}\r\n`));
  if (focus.unpricedTokens === 0n) return;
  const models = focus.unpricedModels.slice(0, 5).join(", ");
  tell(
    io,
    `${focus.unpricedTokens} tokens (${models}) have no price and are left out: FOCUS takes no charge without a cost`,
  );
  tell(
    io,
    source === billedSource(reader)
      ? "hint: add them to the price file, and see what they would have cost with --reprice FILE"
      : "hint: a gateway bills here, --source gateway",
  );
}

/** Whose tokens are billed: a gateway's where the ledger has any. */
function billedSource(reader: LedgerView): ReportSource {
  return reader.series(new Set(["tokenwatt.gateway.tokens"])).size > 0 ? "gateway" : "engine";
}

/** Says so where nothing is held of a range. */
export function tellIfEmpty(reader: LedgerReader, range: ReportRange, io: Io): void {
  const { held } = reader;
  if (held === undefined) {
    tell(io, "the ledger holds nothing yet");
    return;
  }
  const [from, to] = [held.from * bucketMillis, held.to * bucketMillis];
  if (range.from < to && range.to > from) return;
  tell(io, `nothing is booked in this range: the ledger holds ${iso(from)} to ${iso(to)}`);
}

/** How wide a table may be: what the shell says, else the terminal; undefined where neither does. */
function widthOf(io: Io): number | undefined {
  const columns = Number(io.env["COLUMNS"]);
  return Number.isSafeInteger(columns) && columns >= 40 ? columns : io.stdout.columns;
}

/** Only gateways know customers; kinds and outcomes are those of whose tokens are billed. */
function defaultSource(groups: readonly Group[], reader: LedgerView): ReportSource {
  if (groups.includes("tenant") || groups.includes("endpoint")) return "gateway";
  const isOfServers = groups.some(
    (group) => group === "server" || group === "gpu_type" || group === "power_limit",
  );
  return !isOfServers && (groups.includes("kind") || groups.includes("outcome"))
    ? billedSource(reader)
    : "engine";
}

function noAnswer(groups: readonly Group[], source: ReportSource): UsageError {
  const other = source === "engine" ? "gateway" : "engine";
  return new UsageError(
    `Cannot group ${source} figures by ${groups.join(" and ")}: nothing the ledger keeps carries all of them`,
    `try --source ${other}, or fewer groups: engines know server, model, gpu_type, power_limit and kind; gateways tenant, model, endpoint, kind and outcome`,
  );
}

function iso(at: number): string {
  return new Date(at).toISOString();
}
