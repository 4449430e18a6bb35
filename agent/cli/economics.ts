// What one GPU earns in a year, sold by the hour and sold by the token: the worked example behind this project.
// Without a ledger it computes the published figures (METERING.md 6): 3 USD/h at 70 % = 18,396 a year; 30 M tokens/h
// at 60 % and 1 USD per million = 157,680. With one (--state-dir) this host's own figures stand in. All money is integers of 1e-9 of the currency; division comes last.
import type { Command } from "commander";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { printLine } from "./common/io.ts";
import { formatNano, NANO, parseNano, parseNanoRatio } from "./common/numbers.ts";
import { formatTable } from "./common/table.ts";
import type { Economics, EconomicsInputs } from "./report/economics.ts";
import { computeEconomics } from "./report/economics.ts";
import type { Measured } from "./report/measured-economics.ts";

const HOURS_PER_YEAR = 8760n;
const MILLION = 1_000_000n;
const NANOS_PER_HOUR = 3_600_000_000_000n;

interface EconomicsOptions extends EconomicsInputs {
  readonly json?: boolean;
  readonly stateDir?: string;
  readonly from?: string;
  readonly to?: string;
  readonly timeZone: string;
}

/** The ledger's word on the inputs, where `--state-dir` named one. */
interface FromLedger {
  readonly measured: Measured;
  readonly range: { readonly from: number; readonly to: number };
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
  const command = program.command("economics");
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
    .option("--state-dir <folder>", "take what no flag gives from the ledger in this folder")
    .option("--from <time>", "start of the ledger's range, as for `report` (default: today)")
    .option("--to <time>", "end, exclusive (default: as far as the ledger goes)")
    .option("--time-zone <name>", "calendar of --from and --to", "UTC")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt economics                                        the published example: one H100
  tokenwatt economics --capacity-tokens-per-hour 60e6        the same on a GPU twice as fast
  tokenwatt economics --gpu-hour-price 2.2 --json | jq .token_over_gpu_hour
  tokenwatt economics --state-dir /var/lib/tokenwatt --from 2026-11-01    this host as it was
  tokenwatt economics --state-dir /var/lib/tokenwatt --price-per-million 0.5    and at another price`,
    )
    .action(async (options: EconomicsOptions) => {
      const ledger = options.stateDir === undefined ? undefined : await readLedger(options, options.stateDir);
      const given = (key: string): boolean => command.getOptionValueSource(key) === "cli";
      const inputs = ledger === undefined ? options : merge(options, ledger.measured.inputs, given);
      const result = computeEconomics(inputs);
      const print = options.json === true ? toJson : toTable;
      printLine(io, print(inputs, result, ledger));
    });
}

async function readLedger(options: EconomicsOptions, folder: string): Promise<FromLedger> {
  const { LedgerReader } = await import("../store/ledger/reader.ts");
  const { ledgerPath } = await import("../store/state-folder.ts");
  const { readRange } = await import("./report/range.ts");
  const { measure } = await import("./report/measured-economics.ts");
  const reader = new LedgerReader(ledgerPath(folder));
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
  const missing = FLAGS.filter(([key]) => !given(key) && measured[key] === undefined).map(([, flag]) => flag);
  if (missing.length > 0) {
    throw new UsageError(
      `Cannot compare with this ledger: the range does not tell ${missing.join(", ")}`,
      "give them as flags, or meter with a price and capacity catalogue (config `prices`)",
    );
  }
  const chosen = FLAGS.map(([key]) => [key, given(key) ? flags[key] : measured[key]]);
  return Object.fromEntries(chosen) as unknown as EconomicsInputs;
}

function toJson(inputs: EconomicsInputs, result: Economics, ledger: FromLedger | undefined): string {
  const fields: readonly (readonly [string, bigint | undefined])[] = [
    ["gpu_hour_usd_per_year", result.gpuHourPerYear],
    ["token_usd_per_year", result.tokenPerYear],
    ["tokens_per_gpu_hour", result.tokensPerGpuHour],
    ["token_usd_per_gpu_hour", result.tokenPerGpuHour],
    ["token_over_gpu_hour", result.tokenOverGpuHour],
    ["cost_usd_per_million_tokens", result.costPerMillion],
    ["break_even_token_active", result.breakEvenTokenActive],
    ["gpu_hour_price_usd", inputs.gpuHourPrice],
    ["utilization", inputs.utilization],
    ["capacity_tokens_per_hour", inputs.capacityTokensPerHour],
    ["price_usd_per_million", inputs.pricePerMillion],
    ["token_active", inputs.tokenActive],
  ];
  // Written from the integers: a JavaScript number would round large amounts.
  const body = fields.map(([key, value]) => `"${key}":${value === undefined ? "null" : formatNano(value)}`);
  if (ledger === undefined) return `{${body.join(",")}}`;
  const { billableTokens, cost, currency, gpuNanos, revenue, tokens } = ledger.measured;
  const own = [
    `"currency":${JSON.stringify(currency ?? null)}`,
    `"from":"${new Date(ledger.range.from).toISOString()}"`,
    `"to":"${new Date(ledger.range.to).toISOString()}"`,
    `"gpu_hours":${formatNano((gpuNanos * NANO) / NANOS_PER_HOUR)}`,
    `"tokens":${tokens}`,
    `"billable_tokens":${billableTokens}`,
    `"cost":${formatNano(cost)}`,
    `"revenue":${formatNano(revenue)}`,
  ];
  return `{${body.join(",")},"ledger":{${own.join(",")}}}`;
}

function toTable(inputs: EconomicsInputs, result: Economics, ledger: FromLedger | undefined): string {
  const currency = ledger?.measured.currency ?? "USD";
  const money = (value: bigint | undefined): string => amount(value, 2);
  return formatTable(
    [
      ["", "by the hour", "by the token"],
      [
        "price",
        `${money(inputs.gpuHourPrice)} ${currency}/h`,
        `${money(inputs.pricePerMillion)} ${currency}/1M tokens`,
      ],
      ["capacity", "1 GPU-hour/h", `${amount(inputs.capacityTokensPerHour, 0)} tokens/h`],
      ["sold", percent(inputs.utilization), percent(inputs.tokenActive)],
      [
        `${currency} per GPU and hour`,
        money(result.gpuHourPerYear / HOURS_PER_YEAR),
        money(result.tokenPerGpuHour),
      ],
      [`${currency} per GPU and year`, amount(result.gpuHourPerYear, 0), amount(result.tokenPerYear, 0)],
      ["", "", ""],
      ["tokens sold per GPU-hour", "", amount(result.tokensPerGpuHour, 0)],
      [`cost of 1M tokens sold, ${currency}`, "", amount(result.costPerMillion, 3)],
      ["token revenue / hour revenue", "", amount(result.tokenOverGpuHour, 2)],
      ["equal at a token-active share of", "", percent(result.breakEvenTokenActive)],
    ],
    { rightFrom: 1 },
  );
}

function percent(ratio: bigint | undefined): string {
  return ratio === undefined ? "-" : `${amount(ratio * 100n, 1)} %`;
}

function amount(value: bigint | undefined, decimals: number): string {
  if (value === undefined) return "-";
  const step = NANO / 10n ** BigInt(decimals);
  const rounded = formatNano(((value + step / 2n) / step) * step);
  const [whole = "0", fraction = ""] = rounded.split(".");
  const grouped = whole.replaceAll(/\B(?=(\d{3})+$)/g, ",");
  return decimals === 0 ? grouped : `${grouped}.${fraction.padEnd(decimals, "0")}`;
}
