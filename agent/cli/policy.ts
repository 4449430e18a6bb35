// `tokenwatt policy check | show | explain | simulate`: quotas without asking the daemon. They read the policy file and the
// ledger beside the running agent, as `report` does; what they show is as of the agent's last commit.
import type { Command } from "commander";
import type { LoadedConfig } from "../config/load.ts";
import type { Policy } from "../policy/config.ts";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions, loadConfigFor } from "./common/config-options.ts";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { exitCodes, printLine, tell } from "./common/io.ts";
import type { SimulateOptions } from "./policy/simulate.ts";

/** Adds `tokenwatt policy` and its verbs. */
export function register(program: Command, io: Io): void {
  const policy = program
    .command("policy")
    .description("quotas: judge the file, show what is used, explain a caller, replay the past");
  policy.addHelpText(
    "after",
    `
Examples:
  tokenwatt policy check policy.yaml                      every problem at once, with its line
  tokenwatt policy show                                   used, limit and state of every quota
  tokenwatt policy show --tenant acme --json
  tokenwatt policy show --history 3                       the last windows too, and what is on record of them
  tokenwatt policy explain --tenant acme --model m        which quotas match, and what they count
  tokenwatt policy simulate --file new.yaml --from last-month            what a file would have limited, and when
  tokenwatt policy simulate --file new.yaml --against --from 2026-11-01  what it changes against the one in force`,
  );
  addConfigOptions(policy.command("check"))
    .argument("[file]", "policy file (default: `policy` of the configuration)")
    .description("report every problem of a policy file; exit 2 when there is one")
    .option("--json", "print one JSON object")
    .action((file: string | undefined, options: CheckOptions) => check(file, options, io));
  addConfigOptions(policy.command("show"))
    .description("print used, limit and state of every quota")
    .option("--tenant <name>", "quotas of this tenant only")
    .option("--history [windows]", "the last windows of each quota instead (6, the running one included)")
    .option("--state-dir <folder>", "where the ledger lies (default: stateDir of the configuration)")
    .option("--json", "print one JSON object, as /-/policy answers")
    .action((options: ShowOptions) => show(options, io));
  addConfigOptions(policy.command("explain"))
    .description("say which quotas a caller meets, from what rows they are counted, and how full they are")
    .requiredOption("--tenant <name>", "the tenant, as the gateway names it")
    .option("--model <name>", "the model it asks for")
    .option("--endpoint <name>", "the product endpoint it calls")
    .option("--state-dir <folder>", "where the ledger lies (default: stateDir of the configuration)")
    .option("--json", "print one JSON object")
    .action((options: ExplainOptions) => explain(options, io));
  addSimulate(policy, io);
}

function addSimulate(policy: Command, io: Io): void {
  addConfigOptions(policy.command("simulate"))
    .description(
      "replay the ledger's past against a policy file: what would have been limited, when, how much",
    )
    .option("--file <file>", "policy file to try (default: `policy` of the configuration)")
    .option(
      "--against [file]",
      "print what the file changes against this one (without a name: the one in force)",
    )
    .option("--from <time>", "start: 30d, last-month, 2026-11-01, 2026-11-01T06:15Z (default: 30d)")
    .option("--to <time>", "end, exclusive (default: as far as the ledger goes)")
    .option("--time-zone <name>", "zone of dates without one (default: that of the policy)")
    .option("--quota <name>", "this quota only")
    .option("--tenant <name>", "quotas of this tenant only")
    .option("--all", "every window, not only those that came to a share of a limit")
    .option("--format <name>", "table, csv, json", "table")
    .option("--json", "the same as --format json")
    .option("-o, --output <file>", "write there, replacing what it was (default: standard output)")
    .option("--state-dir <folder>", "where the ledger lies (default: stateDir of the configuration)")
    .addHelpText(
      "after",
      `
Windows that begin before the range are counted from their start. An instant is the start of the quarter of an hour in
which a share of the limit was reached; "after" is what was asked for in the quarters after it.`,
    )
    .action(async (options: SimulateCommand) => {
      if (options.output === undefined) return await simulate(options, io);
      const { writeWhole } = await import("./report/output.ts");
      return await writeWhole(options.output, io, (to) => simulate(options, to));
    });
}

interface SimulateCommand extends ConfigOptions, SimulateOptions {
  readonly file?: string;
  readonly against?: string | true;
  readonly output?: string;
  readonly stateDir?: string;
}

async function simulate(options: SimulateCommand, io: Io): Promise<void> {
  const { simulate: replay } = await import("./policy/simulate.ts");
  const { openLedger } = await import("./report.ts");
  const { unknownValue } = await import("./policy/choice.ts");
  const { against, file } = options;
  const needsConfig = file === undefined || against === true;
  const inForce = needsConfig ? policyPath(await loadConfigFor(options, io)) : undefined;
  const path = file ?? inForce ?? "";
  const reader = await openLedger(options, io);
  try {
    const unknown = options.tenant === undefined ? undefined : unknownValue(reader, "tenant", options.tenant);
    if (unknown !== undefined) tell(io, unknown);
    const againstPath = against === true ? inForce : against;
    await replay(reader, { path, againstPath }, options, io);
  } finally {
    reader.close();
  }
}

interface CheckOptions extends ConfigOptions {
  readonly json?: boolean;
}

interface ShowOptions extends CheckOptions {
  readonly tenant?: string;
  readonly history?: string | true;
  readonly stateDir?: string;
}

interface ExplainOptions extends ShowOptions {
  readonly tenant: string;
  readonly model?: string;
  readonly endpoint?: string;
}

async function check(file: string | undefined, options: CheckOptions, io: Io): Promise<void> {
  const { ConfigError } = await import("../config/load.ts");
  const { readPolicy } = await import("../config/policy.ts");
  const { warningsOf } = await import("./policy/warnings.ts");
  const loaded = await loadConfigFor(options, io);
  const path = file ?? policyPath(loaded);
  try {
    const { policy } = readPolicy(path, { hasPrices: loaded.config.prices !== undefined });
    const warnings = warningsOf(policy, loaded.config);
    if (options.json === true) {
      const { digest, version } = policy;
      const quotas = policy.quotas.length;
      printLine(
        io,
        JSON.stringify({ valid: true, file: path, version, digest, quotas, warnings, problems: [] }),
      );
      return;
    }
    for (const warning of warnings) tell(io, `warning: ${warning}`);
    const { length } = policy.quotas;
    const quotas = `${length} ${length === 1 ? "quota" : "quotas"}`;
    tell(io, `${path}: fine, ${quotas}, version ${policy.version}, digest ${policy.digest}`);
  } catch (error) {
    if (!(error instanceof ConfigError) || options.json !== true) throw error;
    printLine(io, JSON.stringify({ valid: false, file: path, problems: error.problems }));
    io.setExit(exitCodes.misconfigured);
  }
}

async function show(options: ShowOptions, io: Io): Promise<void> {
  if (options.history !== undefined) return await history(options, io);
  const { attributeOf } = await import("../meter/names.ts");
  const { policyPage } = await import("../policy/api.ts");
  const { LedgerView } = await import("./policy/ledger-view.ts");
  const { policy, config } = await configured(options, io);
  const view = await LedgerView.open(policy, config, options, io);
  try {
    await tellIfOld(view.atMillis, io);
    tellUnknown(view.unknownValues({ tenant: options.tenant }), io);
    const tenant = options.tenant === undefined ? undefined : attributeOf(options.tenant);
    const readings = view.readings.filter(
      ({ quota, values }) => tenant === undefined || (values.tenant ?? quota.match.tenant) === tenant,
    );
    const limits = view.limits.filter((one) => tenant === undefined || one.tenant === tenant);
    const limiters = tenant === undefined ? view.limiters : [];
    if (options.json === true) {
      const shown = { policy, loadedMillis: view.atMillis, readings, limits, limiters };
      const page = policyPage(shown, true);
      const { loaded: at, ...rest } = page;
      printLine(io, JSON.stringify({ ...rest, as_of: at }, undefined, 2));
      return;
    }
    const { limiterTable, limitTable, quotaTable } = await import("./policy/table.ts");
    tell(
      io,
      `version ${policy.version}, digest ${policy.digest}, as of ${new Date(view.atMillis).toISOString()}`,
    );
    printLine(io, quotaTable(readings));
    if (limits.length > 0) printLine(io, `\n${limitTable(limits)}`);
    if (limiters.length > 0) printLine(io, `\n${limiterTable(limiters)}`);
  } finally {
    view.close();
  }
}

/** The last windows, from the ledger's rows. */
async function history(options: ShowOptions, io: Io): Promise<void> {
  const { historyObject, historyTable, readHistory } = await import("./policy/history.ts");
  const { attributeOf } = await import("../meter/names.ts");
  const { unknownValue } = await import("./policy/choice.ts");
  const { ledgerFile, openLedger } = await import("./report.ts");
  const count = windowCount(options.history);
  const { configuredFamilies } = await import("../config/quota-feeds.ts");
  const { config, policy } = await configured(options, io);
  const families = configuredFamilies(config);
  const [ledger, reader] = [await ledgerFile(options, io), await openLedger(options, io)];
  try {
    const { tenant } = options;
    if (tenant !== undefined) tellUnknown([unknownValue(reader, "tenant", tenant)], io);
    const wanted = tenant === undefined ? undefined : attributeOf(tenant);
    const rows = readHistory(reader, { policy, count, families, ledger }).filter(
      ({ past: { quota, values } }) =>
        wanted === undefined || (values.tenant ?? quota.match.tenant) === wanted,
    );
    const { digest, version } = policy;
    if (options.json === true) {
      const page = { version, digest, time_zone: policy.zone, windows: rows.map(historyObject) };
      printLine(io, JSON.stringify(page, undefined, 2));
      return;
    }
    tell(io, `version ${version}, digest ${digest}: past windows under the limits as they are now`);
    const minutes = policy.quotas.filter(({ per }) => per === "minute").map(({ name }) => name);
    if (minutes.length > 0) tell(io, `of minutes the ledger keeps no past: ${minutes.join(", ")}`);
    printLine(io, historyTable(rows));
  } finally {
    reader.close();
  }
}

function windowCount(given: string | true | undefined): number {
  if (given === undefined || given === true) return 6;
  const count = Number(given);
  if (Number.isSafeInteger(count) && count > 0 && count <= 400) return count;
  throw new UsageError(`Cannot use --history "${given}"`, "wanted a number of windows from 1 to 400");
}

const OLD_MS = 300_000;

/** What an agent that no longer runs left behind is of windows that may be over by now. */
async function tellIfOld(atMillis: number, io: Io): Promise<void> {
  const { systemClock } = await import("../platform/clock.ts");
  const clock = systemClock();
  const age = Number(clock.unixNanos(clock.now()) / 1_000_000n) - atMillis;
  if (age < OLD_MS) return;
  const minutes = Math.round(age / 60_000);
  const text =
    minutes < 120
      ? `${minutes} minutes`
      : minutes < 2880
        ? `${Math.round(minutes / 60)} hours`
        : `${Math.round(minutes / 1440)} days`;
  tell(io, `nothing was committed for ${text}: this is as it was then, and windows may have ended since`);
}

function tellUnknown(said: readonly (string | undefined)[], io: Io): void {
  for (const one of said) if (one !== undefined) tell(io, one);
}

async function explain(options: ExplainOptions, io: Io): Promise<void> {
  const { LedgerView } = await import("./policy/ledger-view.ts");
  const { explainCaller, explanationText } = await import("./policy/explain.ts");
  const { policy, config } = await configured(options, io);
  const view = await LedgerView.open(policy, config, options, io);
  try {
    await tellIfOld(view.atMillis, io);
    tellUnknown(view.unknownValues(options), io);
    const explained = explainCaller(policy, view, options);
    if (options.json === true) printLine(io, JSON.stringify(explained, undefined, 2));
    else printLine(io, explanationText(explained));
  } finally {
    view.close();
  }
}

async function configured(
  options: ConfigOptions,
  io: Io,
): Promise<LoadedConfig & { readonly policy: Policy }> {
  const { readPolicy } = await import("../config/policy.ts");
  const loaded = await loadConfigFor(options, io);
  const { policy } = readPolicy(policyPath(loaded), { hasPrices: loaded.config.prices !== undefined });
  return { ...loaded, policy };
}

function policyPath({ config }: LoadedConfig): string {
  if (config.policy !== undefined) return config.policy;
  throw new UsageError(
    "Cannot find a policy: the configuration names none",
    "set `policy: policy.yaml` in it, or name its file with --config",
  );
}
