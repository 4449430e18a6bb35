// What `tokenwatt economics` prints: as JSON, and as tables.
import { formatNano, NANO } from "../common/numbers.ts";
import { formatTable } from "../common/table.ts";
import type { Economics, EconomicsInputs } from "./economics.ts";
import type { Measured, MeasuredRow } from "./measured-economics.ts";

const HOURS_PER_YEAR = 8760n;
const NANOS_PER_HOUR = 3_600_000_000_000n;

/** What the ledger says of the inputs. */
export interface FromLedger {
  readonly measured: Measured;
  readonly range: { readonly from: number; readonly to: number };
}

/** One input over a range: a ratio from 10 % to 100 %, anything else from a half to twice its value. */
export interface Step {
  readonly name: string;
  readonly value: bigint;
  readonly result: Economics;
}

/** Inputs and results as one JSON object, written from the integers: a JavaScript number would round large amounts. */
export function economicsJson(
  inputs: EconomicsInputs,
  result: Economics,
  ledger: FromLedger | undefined,
  steps: readonly Step[],
): string {
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
  const body = fields.map(([key, value]) => `"${key}":${value === undefined ? "null" : formatNano(value)}`);
  if (steps.length > 0) body.push(`"sweep":[${steps.map(stepJson).join(",")}]`);
  if (ledger === undefined) return `{${body.join(",")}}`;
  return `{${body.join(",")},"ledger":${ledgerJson(ledger)}}`;
}

/** What the ledger says, where too little is known to compare both ways of selling. */
export function rowsJson(ledger: FromLedger): string {
  return `{"gpu_hour_usd_per_year":null,"token_usd_per_year":null,"ledger":${ledgerJson(ledger)}}`;
}

function ledgerJson(ledger: FromLedger): string {
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
    `"rows":[${ledger.measured.rows.map(rowJson).join(",")}]`,
  ];
  return `{${own.join(",")}}`;
}

function stepJson({ name, result, value }: Step): string {
  const fields = [
    [name.replaceAll("-", "_"), value],
    ["token_usd_per_gpu_hour", result.tokenPerGpuHour],
    ["token_usd_per_year", result.tokenPerYear],
    ["gpu_hour_usd_per_year", result.gpuHourPerYear],
    ["token_over_gpu_hour", result.tokenOverGpuHour],
    ["cost_usd_per_million_tokens", result.costPerMillion],
  ] as const;
  return `{${fields.map(([key, one]) => `"${key}":${nano(one)}`).join(",")}}`;
}

function rowJson(row: MeasuredRow): string {
  const fields = [
    ["gpu_hours", (row.allocatedNanos * NANO) / NANOS_PER_HOUR],
    ["tokens_per_gpu_hour", row.tokensPerGpuHour],
    ["price_per_million", row.pricePerMillion],
    ["revenue_per_gpu_hour", row.revenuePerGpuHour],
    ["cost_per_gpu_hour", row.costPerGpuHour],
    ["cost_per_million_tokens", row.costPerMillion],
    ["of_capacity", row.ofCapacity],
  ] as const;
  const names = `"model":${JSON.stringify(row.model)},"gpu_type":${JSON.stringify(row.gpuType)}`;
  const figures = fields.map(([key, one]) => `"${key}":${nano(one)}`).join(",");
  return `{${names},"billable_tokens":${row.billableTokens ?? null},${figures}}`;
}

function nano(value: bigint | undefined): string {
  return value === undefined ? "null" : formatNano(value);
}

/** Inputs and results for people: both ways of selling, then a row per model and GPU, then the sweep. */
export function economicsTable(
  inputs: EconomicsInputs,
  result: Economics,
  ledger: FromLedger | undefined,
  steps: readonly Step[],
): string {
  const currency = ledger?.measured.currency ?? "USD";
  const tables = [exampleTable(inputs, result, ledger)];
  if (ledger !== undefined && ledger.measured.rows.length > 0)
    tables.push(rowsTable(ledger.measured.rows, currency));
  if (steps.length > 0) tables.push(sweepTable(steps, currency));
  return tables.join("\n\n");
}

/** Models and products of GPU, for people. */
export function rowsOnly({ measured }: FromLedger): string {
  return rowsTable(measured.rows, measured.currency ?? "");
}

function rowsTable(rows: readonly MeasuredRow[], currency: string): string {
  const head = [
    "model",
    "GPU",
    "GPU-h",
    "tok/GPU-h",
    currency === "" ? "price/1M" : `${currency}/1M`,
    "revenue/h",
    "cost/h",
    "cost/1M",
    "of capacity",
  ];
  const lines = rows.map((row) => [
    row.model,
    row.gpuType,
    amount((row.allocatedNanos * NANO) / NANOS_PER_HOUR, 2),
    amount(row.tokensPerGpuHour, 0),
    amount(row.pricePerMillion, 3),
    amount(row.revenuePerGpuHour, 2),
    amount(row.costPerGpuHour, 2),
    amount(row.costPerMillion, 3),
    percent(row.ofCapacity),
  ]);
  return formatTable([head, ...lines], { rightFrom: 2 });
}

function sweepTable(steps: readonly Step[], currency: string): string {
  const isRatio = steps[0]?.name === "utilization" || steps[0]?.name === "token-active";
  const head = [
    steps[0]?.name ?? "",
    `${currency}/h by token`,
    `${currency}/year by token`,
    "by hour",
    "token/hour",
    "cost/1M",
  ];
  const lines = steps.map(({ result, value }) => [
    isRatio ? percent(value) : amount(value, 2),
    amount(result.tokenPerGpuHour, 2),
    amount(result.tokenPerYear, 0),
    amount(result.gpuHourPerYear, 0),
    amount(result.tokenOverGpuHour, 2),
    amount(result.costPerMillion, 3),
  ]);
  return formatTable([head, ...lines], { rightFrom: 0 });
}

function exampleTable(inputs: EconomicsInputs, result: Economics, ledger: FromLedger | undefined): string {
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
