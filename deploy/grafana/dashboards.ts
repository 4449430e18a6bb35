// All boards, by the file they are committed as. Key figures come from prometheus/kpis.ts; where nothing is known a panel
// is empty, never 0. Why they are built as they are: docs/boards.md.
import type { Dashboard } from "./board.ts";
import { capacity } from "./capacity.ts";
import { cost } from "./cost.ts";
import { operation } from "./operation.ts";
import { usage } from "./usage.ts";

/** All of them, by the file they are committed as. */
export const dashboards: Readonly<Record<string, Dashboard>> = {
  sre: operation,
  planner: capacity,
  finance: cost,
  usage,
};
