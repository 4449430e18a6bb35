// The totals of a replay as a table for people.
import { uncertainWords } from "../../daemon/uncertain-words.ts";
import { formatTable } from "../common/table.ts";

interface Totals {
  readonly state_seconds: Readonly<Record<string, number>>;
  readonly energy_joules: Readonly<Record<string, number>>;
  readonly servers: Readonly<
    Record<
      string,
      { input_tokens: number; output_tokens: number; gpu_seconds: number; energy_joules: number }
    >
  >;
  readonly uncertain: Readonly<Record<string, { gpu_seconds: number; energy_joules: number }>>;
  readonly kpis: Readonly<Record<string, number | null>>;
}

/** Readable totals: states, servers, KPIs, what of them is uncertain and why, and how fast the recording ran. */
export function summaryText(line: object, gpuSeconds: number, tookSeconds?: number): string {
  const totals = line as Totals;
  const states = Object.entries(totals.energy_joules).map(([state, joules]) => [
    state,
    fixed(totals.state_seconds[state], 1),
    fixed(joules, 0),
  ]);
  const servers = Object.entries(totals.servers).map(([id, server]) => [
    id,
    String(server.input_tokens),
    String(server.output_tokens),
    fixed(server.gpu_seconds, 1),
    fixed(server.energy_joules, 0),
  ]);
  // A share of time says nothing of how full the server was: it never stands alone (METERING.md 2).
  const ratios = Object.entries(totals.kpis).flatMap(([name, value]) => [
    [name, value === null ? "-" : shown(value)],
    ...(name === "token_active_utilization" ? [["capacity_utilization", "not known"]] : []),
  ]);
  const uncertain = Object.entries(totals.uncertain).map(([reason, { energy_joules, gpu_seconds }]) => {
    const amounts = [
      ...(gpu_seconds > 0 ? [`${fixed(gpu_seconds, 1)} GPU-seconds`] : []),
      ...(energy_joules > 0 ? [`${fixed(energy_joules, 0)} joules`] : []),
    ];
    return `uncertain, ${amounts.join(" and ")}: ${uncertainWords(reason)}`;
  });
  return [
    formatTable([["state", "GPU-seconds", "joules"], ...states], { rightFrom: 1 }),
    formatTable([["server", "input tokens", "output tokens", "GPU-seconds", "joules"], ...servers], {
      rightFrom: 1,
    }),
    formatTable([["KPI", "value"], ...ratios], { rightFrom: 1 }),
    ...(uncertain.length === 0 ? [] : [uncertain.join("\n")]),
    `${fixed(gpuSeconds, 1)} s metered${tookSeconds === undefined ? "" : ` in ${fixed(tookSeconds, 2)} s`}`,
  ].join("\n\n");
}

function shown(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString("en-US") : value.toFixed(3);
}

function fixed(value: number | undefined, digits: number): string {
  return value === undefined ? "-" : value.toFixed(digits);
}
