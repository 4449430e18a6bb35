// What all hosts together used, as a Prometheus says of their metrics: the query, and its answer as counters. Only series
// whose own reset time is the end of our current window are summed, so that a host that still shows the window before adds
// nothing. The names are those of our metrics as Prometheus has them; which hosts it reads is not ours to know.
import type { Quota } from "./config.ts";
import { fineAmount, matchKeys, unitWord } from "./config.ts";
import type { KeyValues } from "./counter.ts";
import type { Window } from "./windows.ts";

/** One quota and the window it is in. */
export interface FleetAsked {
  readonly quota: Quota;
  readonly window: Window;
}

/** What all hosts used of one counter. */
export interface FleetUsed {
  /** Fine units. */
  readonly used: bigint;
  /** How many agents said so. */
  readonly hosts: number;
}

/** An answer. */
export interface FleetAnswer {
  /** When the newest sample of it was taken, unix milliseconds. */
  readonly sampledMillis: number;
  /** By the key of the counter. */
  readonly used: ReadonlyMap<string, FleetUsed>;
}

const LABELS = { tenant: "tokenwatt_tenant", endpoint: "tokenwatt_endpoint", model: "gen_ai_request_model" };
const NAME = "tokenwatt_quota_name";
/** Which figure a series of the answer is. */
const FIGURE = "tokenwatt_fleet";
const GROUP = [NAME, ...Object.values(LABELS)].join(", ");

/** The query for these quotas; empty where there are none. */
export function fleetQuery(asked: readonly FleetAsked[]): string {
  const words = [...new Set(asked.map(({ quota }) => unitWord(quota.count)))];
  const parts = words.flatMap((word) => {
    const of = asked.filter(({ quota }) => unitWord(quota.count) === word);
    const names = of.map(({ quota }) => quota.name).join("|");
    const used = `tokenwatt_quota_used_${word}{tokenwatt_quota_scope="host", ${NAME}=~"${names}"}`;
    const ends = new Map(of.map(({ quota, window }) => [`${quota.per} ${window.to}`, { quota, window }]));
    const resets = [...ends.values()].map(
      ({ quota, window }) =>
        `tokenwatt_quota_reset_time_seconds{tokenwatt_quota_window="${quota.per}"} == ${window.to / 1000}`,
    );
    const current = `${used} and ignoring (tokenwatt_quota_scope) (${resets.join(" or ")})`;
    return [
      figure(`sum by (${GROUP}) (${current})`, "used"),
      figure(`count by (${GROUP}) (${current})`, "hosts"),
      figure(`max by (${NAME}) (timestamp(${used}))`, "time"),
    ];
  });
  return parts.join(" or ");
}

function figure(expression: string, name: string): string {
  return `label_replace(${expression}, "${FIGURE}", "${name}", "", "")`;
}

/** The key of a counter in an answer. */
export function fleetKey(quota: Quota, values: KeyValues): string {
  const parts = matchKeys.map((key) => values[key] ?? (quota.match[key] === "*" ? "" : quota.match[key]));
  return JSON.stringify([quota.name, ...parts.map((part) => part ?? "")]);
}

/** Reads the body of `/api/v1/query`. Throws where it is no answer, or one in which none of these quotas is. */
export function readFleetAnswer(body: string, asked: readonly FleetAsked[]): FleetAnswer {
  const quotas = new Map(asked.map(({ quota }) => [quota.name, quota]));
  const figures = new Map<string, { used?: number; hosts?: number; quota: Quota }>();
  let sampledMillis = 0;
  for (const { metric, value } of seriesOf(body)) {
    const quota = quotas.get(metric[NAME] ?? "");
    const amount = Number(value[1]);
    if (quota === undefined || !Number.isFinite(amount) || amount < 0) continue;
    const name = metric[FIGURE];
    if (name === "time") sampledMillis = Math.max(sampledMillis, amount * 1000);
    if (name !== "used" && name !== "hosts") continue;
    const key = JSON.stringify([quota.name, ...matchKeys.map((one) => metric[LABELS[one]] ?? "")]);
    figures.set(key, { ...figures.get(key), quota, [name]: amount });
  }
  if (sampledMillis === 0) throw new Error("it has no series of these quotas: does it read the agents?");
  const used = [...figures].flatMap(([key, { hosts = 0, quota, used: amount }]) =>
    amount === undefined ? [] : [[key, { used: fineAmount(amount, quota.scale), hosts }] as const],
  );
  return { sampledMillis, used: new Map(used) };
}

interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

function seriesOf(body: string): readonly Series[] {
  let answer: { status?: unknown; error?: unknown; data?: { resultType?: unknown; result?: unknown } } | null;
  try {
    answer = JSON.parse(body) as typeof answer;
  } catch {
    throw new Error(`it answers no JSON, but ${JSON.stringify(body.slice(0, 60))}`);
  }
  if (answer?.status !== "success")
    throw new Error(`it cannot answer: ${String(answer?.error ?? "no status").slice(0, 200)}`);
  const { result, resultType } = answer.data ?? {};
  if (resultType !== "vector" || !Array.isArray(result))
    throw new Error("it answers no vector, wanted the API of Prometheus");
  return result.filter(isSeries);
}

function isSeries(one: unknown): one is Series {
  const { metric, value } = (one ?? {}) as Partial<Record<keyof Series, unknown>>;
  return typeof metric === "object" && metric !== null && Array.isArray(value) && value.length === 2;
}
