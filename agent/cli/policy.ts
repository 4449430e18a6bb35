// `tokenwatt policy check | show | explain`: quotas without asking the daemon. They read the policy file and the ledger
// beside the running agent, as `report` does; what they show is as of the agent's last commit.
import type { Command } from "commander";
import type { LoadedConfig } from "../config/load.ts";
import type { Policy } from "../policy/config.ts";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions, loadConfigFor } from "./common/config-options.ts";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { exitCodes, printLine, tell } from "./common/io.ts";

/** Adds `tokenwatt policy` and its verbs. */
export function register(program: Command, io: Io): void {
  const policy = program
    .command("policy")
    .description("quotas: judge the file, show what is used, explain a caller");
  policy.addHelpText(
    "after",
    `
Examples:
  tokenwatt policy check policy.yaml                      every problem at once, with its line
  tokenwatt policy show                                   used, limit and state of every quota
  tokenwatt policy show --tenant acme --json
  tokenwatt policy explain --tenant acme --model m        which quotas match, and what they count`,
  );
  addConfigOptions(policy.command("check"))
    .argument("[file]", "policy file (default: `policy` of the configuration)")
    .description("report every problem of a policy file; exit 2 when there is one")
    .option("--json", "print one JSON object")
    .action((file: string | undefined, options: CheckOptions) => check(file, options, io));
  addConfigOptions(policy.command("show"))
    .description("print used, limit and state of every quota")
    .option("--tenant <name>", "quotas of this tenant only")
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
}

interface CheckOptions extends ConfigOptions {
  readonly json?: boolean;
}

interface ShowOptions extends CheckOptions {
  readonly tenant?: string;
  readonly stateDir?: string;
}

interface ExplainOptions extends ShowOptions {
  readonly tenant: string;
  readonly model?: string;
  readonly endpoint?: string;
}

async function check(file: string | undefined, options: CheckOptions, io: Io): Promise<void> {
  const { ConfigError } = await import("../config/load.ts");
  const { policyWarnings, readPolicy } = await import("../config/policy.ts");
  const { configuredFamilies } = await import("./policy/ledger-view.ts");
  const loaded = await loadConfigFor(options, io);
  const path = file ?? policyPath(loaded);
  try {
    const { policy } = readPolicy(path, { hasPrices: loaded.config.prices !== undefined });
    const warnings = policyWarnings(policy, configuredFamilies(loaded.config));
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
    tell(
      io,
      `${path}: fine, ${policy.quotas.length} quotas, version ${policy.version}, digest ${policy.digest}`,
    );
  } catch (error) {
    if (!(error instanceof ConfigError) || options.json !== true) throw error;
    printLine(io, JSON.stringify({ valid: false, file: path, problems: error.problems }));
    io.setExit(exitCodes.misconfigured);
  }
}

async function show(options: ShowOptions, io: Io): Promise<void> {
  const { attributeOf } = await import("../meter/names.ts");
  const { policyPage } = await import("../policy/api.ts");
  const { LedgerView } = await import("./policy/ledger-view.ts");
  const { policy, config } = await configured(options, io);
  const view = await LedgerView.open(policy, config, options, io);
  try {
    const tenant = options.tenant === undefined ? undefined : attributeOf(options.tenant);
    const readings = view.readings.filter(
      ({ quota, values }) => tenant === undefined || (values.tenant ?? quota.match.tenant) === tenant,
    );
    if (options.json === true) {
      const page = policyPage({ policy, loadedMillis: view.atMillis, readings }, true);
      const { loaded: at, ...rest } = page;
      printLine(io, JSON.stringify({ ...rest, as_of: at }, undefined, 2));
      return;
    }
    const { quotaTable } = await import("./policy/table.ts");
    tell(
      io,
      `version ${policy.version}, digest ${policy.digest}, as of ${new Date(view.atMillis).toISOString()}`,
    );
    printLine(io, quotaTable(readings));
  } finally {
    view.close();
  }
}

async function explain(options: ExplainOptions, io: Io): Promise<void> {
  const { LedgerView } = await import("./policy/ledger-view.ts");
  const { explainCaller, explanationText } = await import("./policy/explain.ts");
  const { policy, config } = await configured(options, io);
  const view = await LedgerView.open(policy, config, options, io);
  try {
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
