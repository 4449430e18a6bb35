// What was used, by whom: the totals of prometheus/kpis.ts that are figures of their own, over any window and calendar.
// Revenue by customer is another view of revenue, from the same tokens: never added to it.
import type { GroupName, TotalName } from "./kpis.ts";

/** What was used, by whom: a sum of its own over any window and calendar, and its rate. */
export interface Usage {
  readonly total: TotalName;
  readonly title: string;
  /** What its rate is called: requests per second are QPS. */
  readonly rate: string;
  readonly groups: readonly GroupName[];
}

export const usages: readonly Usage[] = [
  {
    total: "gateway_tokens",
    title: "Tokens used by customers",
    rate: "tokens per second",
    groups: ["tenant", "model", "endpoint", "kind", "outcome", "fleet"],
  },
  {
    total: "gateway_requests",
    title: "Requests of customers",
    rate: "requests per second (QPS)",
    groups: ["tenant", "model", "endpoint", "outcome", "fleet"],
  },
  {
    total: "tokens",
    title: "Tokens the engines processed",
    rate: "tokens per second",
    groups: ["model", "server", "replica", "gpu_model", "fleet"],
  },
  {
    total: "tenant_seconds",
    title: "GPU-seconds by customer",
    rate: "GPUs in use",
    groups: ["tenant", "model", "fleet"],
  },
  {
    total: "tenant_joules",
    title: "Joules by customer",
    rate: "watts",
    groups: ["tenant", "model", "fleet"],
  },
  {
    total: "tenant_cost",
    title: "Cost by customer",
    rate: "money per second",
    groups: ["tenant", "model", "fleet"],
  },
  {
    total: "tenant_revenue",
    title: "Revenue by customer",
    rate: "money per second",
    groups: ["tenant", "model", "fleet"],
  },
  {
    total: "revenue_earned",
    title: "Revenue",
    rate: "money per second",
    groups: ["model", "fleet"],
  },
];
