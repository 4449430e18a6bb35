// What a gateway's page says it enforces by itself, read apart from its counters: budgets are gauges that fall, are infinite
// where there is none and negative where they are overspent, and none of that may cast doubt on a counter. Of series that
// name one customer twice (a process each) the least that is left counts; of more customers than can be kept none.
import type { GatewayLimit, Nanos } from "../../model.ts";
import type { MetricSample } from "../../source.ts";
import type { ReaderOptions } from "./labels.ts";
import { identifier } from "./labels.ts";
import { filedName } from "./spelling.ts";

/** Names of the gauges of one kind of budget. */
export interface BudgetNames {
  readonly limit: string;
  readonly remaining: string;
  /** Hours until it begins again. */
  readonly hours: string;
}

/** How a kind of server says its limits: by one kind of customer each. */
export interface LimitReader {
  readonly budgets: readonly BudgetNames[];
  /** What its money is in. */
  readonly currency: string;
}

const LIMITS_MAX = 1000;
const HOUR_NANOS = 3600e9;

/** The families a reader's limits are in, as filed. */
export function limitFamilies(reader: LimitReader): readonly string[] {
  return reader.budgets.flatMap(({ hours, limit, remaining }) => [limit, remaining, hours].map(filedName));
}

/** Samples by the name they are filed under; NaN where the page has no finite number. */
type Aside = ReadonlyMap<string, readonly MetricSample[]>;

/** Reads the limits of one gateway, page by page. */
export class LimitPages {
  readonly #reader: LimitReader;
  readonly #labels: ReaderOptions;

  constructor(reader: LimitReader, labels: ReaderOptions) {
    this.#reader = reader;
    this.#labels = labels;
  }

  /** The limits of customers that the samples of an instant say; undefined where they name none. */
  take(aside: Aside, at: Nanos): readonly GatewayLimit[] | undefined {
    if (aside.size === 0) return undefined;
    const limits = this.#reader.budgets.flatMap((names) => this.#budgets(aside, names, at));
    return limits.length === 0 ? undefined : limits.slice(0, LIMITS_MAX);
  }

  #budgets(aside: Aside, names: BudgetNames, at: Nanos): GatewayLimit[] {
    const identify = identifier(this.#labels);
    const byTenant = (name: string): Map<string, number[]> => {
      const values = new Map<string, number[]>();
      for (const { labels, value } of aside.get(filedName(name)) ?? []) {
        if (Number.isNaN(value)) continue;
        const { tenant } = identify(labels);
        if (tenant !== undefined) values.set(tenant, [...(values.get(tenant) ?? []), value]);
      }
      return values;
    };
    const remaining = byTenant(names.remaining);
    const hours = byTenant(names.hours);
    return [...byTenant(names.limit)].flatMap(([tenant, limits]) => {
      const limit = Math.min(...limits);
      if (!(limit >= 0)) return [];
      const left = remaining.get(tenant);
      const until = hours.get(tenant);
      return {
        tenant,
        currency: this.#reader.currency,
        limit,
        ...(left === undefined ? {} : { remaining: Math.min(...left) }),
        ...(until === undefined ? {} : { resetsAt: at + Math.round(Math.min(...until) * HOUR_NANOS) }),
      };
    });
  }
}
