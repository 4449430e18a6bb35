// Boards without Grafana: every expression names series and labels that exist, every panel says what it shows, in which
// unit, from the data source that is chosen, in the one colour of each state.
// That every expression evaluates, and shows something, is tested in test/e2e/deploy-boards.e2e.ts and test/e2e/deploy-fleet.e2e.ts.
import { describe, expect, test } from "vitest";
import { stateLooks, stateOrder } from "../../agent/platform/state-colours.ts";
import { dashboardJson, marks } from "../../deploy/grafana/board.ts";
import { dashboards } from "../../deploy/grafana/dashboards.ts";
import { chosenKpi } from "../../deploy/grafana/variables.ts";
import { kpis } from "../../deploy/prometheus/kpis.ts";
import { rulesOf, unknownNames } from "./promql-names.ts";

const recorded = new Set(rulesOf("recording-rules.yaml").map((rule) => rule.record ?? ""));
const SOURCE = { type: "prometheus", uid: "$source" };

interface BoardJson {
  readonly uid: string;
  readonly panels: readonly {
    readonly title: string;
    readonly type: string;
    readonly description: string;
    readonly datasource: object;
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
    readonly targets: readonly {
      readonly datasource: object;
      readonly expr: string;
      readonly legendFormat?: string;
    }[];
    readonly fieldConfig: {
      readonly defaults: { readonly unit: string };
      readonly overrides: readonly {
        readonly matcher: { readonly options: string };
        readonly properties: readonly {
          readonly id: string;
          readonly value: { readonly fixedColor?: string };
        }[];
      }[];
    };
  }[];
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly type: string; readonly definition?: string }[];
  };
  readonly annotations: {
    readonly list: readonly { readonly name: string; readonly datasource: object; readonly expr?: string }[];
  };
  readonly links: readonly {
    readonly tags: readonly string[];
    readonly keepTime: boolean;
    readonly includeVars: boolean;
  }[];
}

/** The selectors of an expression with the choices each follows. */
function choicesOf(expr: string): string[] {
  return [...expr.matchAll(/\{([^}]*)\}/g)].map(([, inner = ""]) =>
    [...inner.matchAll(/"\$(\w+)"/g)]
      .map(([, name]) => name)
      .sort()
      .join(" "),
  );
}

describe.each(Object.entries(dashboards))("dashboard %s", (_, board) => {
  const json = JSON.parse(dashboardJson(board)) as BoardJson;
  const queries = board.panels.flatMap((panel) => panel.queries.map((query) => ({ ...query, panel })));

  test("names only what exists, in panels, choices and marks", () => {
    const asked = [
      ...queries.map(({ expr }) => expr),
      ...json.templating.list.flatMap(({ definition }) =>
        definition === undefined
          ? []
          : [definition.replace(/^label_values\((.*), (\w+)\)$/, "group by ($2) ($1)")],
      ),
      ...marks.map(({ expr }) => expr),
    ];
    expect(asked.flatMap((expr) => unknownNames(expr, recorded))).toEqual([]);
  });

  test("legends name labels their expression keeps", () => {
    for (const { expr, legend } of queries) {
      for (const [, label] of legend.matchAll(/\{\{(\w+)\}\}/g)) {
        const recordedBy = /^1 - \w+:|^\w+:/.test(expr);
        if (!recordedBy) expect(expr, legend).toMatch(new RegExp(`by \\([^)]*\\b${label}\\b`));
      }
    }
  });

  test("every panel says what it shows and in which unit, from the chosen source, and none overlaps another", () => {
    const cells = new Set<string>();
    for (const { datasource, description, fieldConfig, gridPos, targets, title } of json.panels) {
      expect(description.length, title).toBeGreaterThan(20);
      expect(fieldConfig.defaults.unit, title).toMatch(/\S/);
      expect(targets.length, title).toBeGreaterThan(0);
      for (const one of [{ datasource }, ...targets]) expect(one.datasource, title).toEqual(SOURCE);
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        expect(cells.has(`${x} ${gridPos.y}`), title).toBe(false);
        cells.add(`${x} ${gridPos.y}`);
      }
    }
    expect(new Set(json.panels.map(({ title }) => title)).size).toBe(json.panels.length);
  });

  test("a quotient follows the same choices on both sides", () => {
    for (const { expr, panel } of queries) {
      if (expr.includes("/")) expect(new Set(choicesOf(expr)).size, `${panel.title}: ${expr}`).toBe(1);
    }
  });

  test("each state has its one colour wherever it is named", () => {
    for (const { fieldConfig, targets, title } of json.panels) {
      for (const state of stateOrder) {
        const { dark, label } = stateLooks[state];
        if (!targets.some(({ legendFormat }) => legendFormat?.startsWith(label) === true)) continue;
        const named = fieldConfig.overrides.filter(({ matcher }) =>
          matcher.options.startsWith(`/^${label}(`),
        );
        expect(
          named.map(({ properties }) => properties[0]?.value.fixedColor),
          `${title}: ${label}`,
        ).toEqual([dark]);
      }
    }
  });

  test("has every choice, marks for restarts and alerts, and a way to the others", () => {
    const names = json.templating.list.map(({ name }) => name);
    for (const name of ["source", "cluster", "host", "gpu", "model", "server", "tenant", "currency"])
      expect(names).toContain(name);
    const marked = json.annotations.list.map(({ name }) => name);
    expect(marked).toEqual(expect.arrayContaining(["Alerts", "Server restarts", "Agent restarts"]));
    for (const { datasource, expr } of json.annotations.list)
      if (expr !== undefined) expect(datasource).toEqual(SOURCE);
    expect(json.links).toMatchObject([{ tags: ["tokenwatt"], keepTime: true, includeVars: true }]);
  });
});

test("the choice of a GPU type reaches every figure of tokens by GPU time, energy or cost, their unmatched ones too", () => {
  const perGpu = kpis.filter(
    ({ over, under }) =>
      [over, under].some((one) => one.startsWith("matched_")) &&
      ![over, under].some((one) => one.startsWith("model_")),
  );
  expect(perGpu.length).toBeGreaterThan(8);
  for (const kpi of perGpu) {
    for (const group of kpi.groups)
      expect(chosenKpi(kpi, group), `${kpi.name} ${group}`).toContain('hw_model=~"$gpu"');
  }
});

test("GPU time by state is stacked in the order of METERING, on every board that stacks states", () => {
  const stacked = Object.values(dashboards).flatMap(({ panels }) =>
    panels.filter(
      ({ queries, stacked }) => stacked === true && queries.some(({ legend }) => legend.startsWith("parked")),
    ),
  );
  expect(stacked.map(({ title }) => title)).toEqual([
    "GPU time by state",
    "Power by state",
    "Cost by what the GPU did",
  ]);
  for (const { queries } of stacked)
    expect(queries.map(({ expr }) => /tokenwatt_gpu_state="(\w+)"/.exec(expr)?.[1])).toEqual([...stateOrder]);
});
