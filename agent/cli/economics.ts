// What one GPU earns in a year, sold by the hour and sold by the token: the worked example behind this project.
// Without a ledger it computes the published figures (METERING.md 6): 3 USD/h at 70 % = 18,396 a year; 30 M tokens/h
// at 60 % and 1 USD per million = 157,680. Where this host has a ledger its own figures stand in, and each model on each
// product of GPU has a row. All money is integers of 1e-9 of the currency; division comes last.
import type { Command } from "commander";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions } from "./common/config-options.ts";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { printLine, tell } from "./common/io.ts";
import { formatNano, NANO, parseNano, parseNanoRatio } from "./common/numbers.ts";
import type { EconomicsInputs } from "./report/economics.ts";
import { computeEconomics } from "./report/economics.ts";
import type { FromLedger, Step } from "./report/economics-format.ts";
import { economicsJson, economicsTable, rowsJson, rowsOnly } from "./report/economics-format.ts";

const MILLION = 1_000_000n;

interface EconomicsOptions extends EconomicsInputs, ConfigOptions {
  readonly json?: boolean;
  readonly example?: boolean;
  readonly sweep?: string;
  readonly stateDir?: string;
  readonly from?: string;
  readonly to?: string;
  readonly timeZone: string;
}

const FLAGS: readonly (readonly [keyof EconomicsInputs, string])[] = [
  ["gpuHourPrice", "--gpu-hour-price"],
  ["utilization", "--utilization"],
  ["capacityTokensPerHour", "--capacity-tokens-per-hour"],
  ["pricePerMillion", "--price-per-million"],
  ["tokenActive", "--token-active"],
];

/** Adds `tokenwatt economics`. */
export function register(program: Command, io: Io): void {
  const command = addConfigOptions(program.command("economics"));
  const number = (flags: string, description: string, value: bigint, parse = parseNano): void => {
    const option = command.createOption(flags, description).argParser(parse);
    command.addOption(option.default(value, formatNano(value)));
  };
  number("--gpu-hour-price <usd>", "price of one GPU-hour", 3n * NANO);
  number("--utilization <ratio>", "share of the hours that are sold", (7n * NANO) / 10n, parseNanoRatio);
  number("--capacity-tokens-per-hour <tokens>", "tokens per hour at full load", 30n * MILLION * NANO);
  number("--price-per-million <usd>", "price of a million tokens", NANO);
  number("--token-active <ratio>", "share of the capacity that is billed", (6n * NANO) / 10n, parseNanoRatio);
  command
    .description("what one GPU earns in a year, sold by the hour and sold by the token")
    .option("--state-dir <folder>", "where the ledger lies (default: stateDir of the configuration)")
    .option("--example", "the published example, whatever the ledger holds")
    .option(
      "--sweep <input>",
      `the same over a range of one input: ${FLAGS.map(([, flag]) => flag.slice(2)).join(", ")}`,
    )
    .option("--from <time>", "start of the ledger's range, as for `report` (default: today)")
    .option("--to <time>", "end, exclusive (default: as far as the ledger goes)")
    .option("--time-zone <name>", "calendar of --from and --to", "UTC")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt economics --from last-month                      this host, from its ledger
  tokenwatt economics --from 7d --price-per-million 0.5      and at another price
  tokenwatt economics --example                              the published example: one H100
  tokenwatt economics --example --capacity-tokens-per-hour 60e6    the same on a GPU twice as fast
  tokenwatt economics --sweep token-active                   from 10 % to 100 % of the capacity`,
    )
    .action(async (options: EconomicsOptions) => {
      const given = (key: string): boolean => command.getOptionValueSource(key) === "cli";
      const ledger = await ledgerOf(options, given, io);
      const missing = ledger === undefined ? [] : missingFlags(ledger.measured.inputs, given);
      if (ledger !== undefined && missing.length > 0 && canShowRows(ledger, options)) {
        printLine(io, options.json === true ? rowsJson(ledger) : rowsOnly(ledger));
        tell(io, `not compared with selling by the hour: the ledger does not tell ${missing.join(", ")}`);
        tell(
          io,
          "hint: give them as flags, or meter with a capacity (config `capacity`, or the price file's)",
        );
        return;
      }
      const inputs = ledger === undefined ? options : merge(options, ledger.measured.inputs, given);
      const steps = options.sweep === undefined ? [] : sweep(inputs, options.sweep);
      const result = computeEconomics(inputs);
      const print = options.json === true ? economicsJson : economicsTable;
      printLine(io, print(inputs, result, ledger, steps));
    });
}

/** What the ledger says: of a named one in any case, of the host's own where it is there and knows its prices. */
async function ledgerOf(
  options: EconomicsOptions,
  given: (key: string) => boolean,
  io: Io,
): Promise<FromLedger | undefined> {
  if (options.example === true) return undefined;
  const { existsSync } = await import("node:fs");
  const { ledgerFile } = await import("./report.ts");
  const file = await ledgerFile(options, io);
  if (options.stateDir !== undefined) return readLedger(options, file);
  if (!existsSync(file)) return undefined;
  const ledger = await readLedger(options, file);
  const missing = missingFlags(ledger.measured.inputs, given);
  if (missing.length === 0 || canShowRows(ledger, options))
    return ledger.measured.gpuNanos === 0n ? undefined : ledger;
  tell(io, `the ledger of this host does not tell ${missing.join(", ")}: this is the published example`);
  return undefined;
}

/** Whether models and GPUs can be told of where the comparison cannot be made. */
function canShowRows({ measured }: FromLedger, { sweep: swept }: EconomicsOptions): boolean {
  return swept === undefined && measured.rows.some(({ allocatedNanos }) => allocatedNanos > 0n);
}

function missingFlags(
  measured: Partial<EconomicsInputs>,
  given: (key: string) => boolean,
): readonly string[] {
  return FLAGS.filter(([key]) => !given(key) && measured[key] === undefined).map(([, flag]) => flag);
}

async function readLedger(options: EconomicsOptions, file: string): Promise<FromLedger> {
  const { LedgerReader } = await import("../store/ledger/reader.ts");
  const { readRange } = await import("./report/range.ts");
  const { measure } = await import("./report/measured-economics.ts");
  const reader = new LedgerReader(file);
  try {
    const range = readRange(options, undefined, Number((reader.time ?? 0n) / MILLION));
    return { measured: measure(reader, range.from, range.to), range };
  } finally {
    reader.close();
  }
}

/** Flags first, then the ledger; what neither gives is asked for, because a default would be a made-up price. */
function merge(
  flags: EconomicsInputs,
  measured: Partial<EconomicsInputs>,
  given: (key: string) => boolean,
): EconomicsInputs {
  const missing = missingFlags(measured, given);
  if (missing.length > 0) {
    throw new UsageError(
      `Cannot compare with this ledger: the range does not tell ${missing.join(", ")}`,
      "give them as flags, meter with a price and capacity catalogue (config `prices`), or see --example",
    );
  }
  const chosen = FLAGS.map(([key]) => [key, given(key) ? flags[key] : measured[key]]);
  return Object.fromEntries(chosen) as unknown as EconomicsInputs;
}

function sweep(inputs: EconomicsInputs, name: string): readonly Step[] {
  const found = FLAGS.find(([, flag]) => flag.slice(2) === name.replaceAll("_", "-"));
  if (found === undefined) {
    const known = FLAGS.map(([, flag]) => flag.slice(2)).join(", ");
    throw new UsageError(`Cannot sweep "${name}"`, `wanted one of ${known}`);
  }
  const [key, flag] = found;
  const isRatio = key === "utilization" || key === "tokenActive";
  const steps = isRatio
    ? [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n, 9n, 10n]
    : [5n, 6n, 7n, 8n, 9n, 10n, 12n, 14n, 16n, 18n, 20n];
  return steps.map((step) => {
    const value = ((isRatio ? NANO : inputs[key]) * step) / 10n;
    return { name: flag.slice(2), value, result: computeEconomics({ ...inputs, [key]: value }) };
  });
}
