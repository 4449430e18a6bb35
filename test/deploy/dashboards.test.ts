// Dashboards without Grafana: every expression names series and labels that exist, and the panels asked for are there.
// That every expression evaluates, and shows something, is tested in test/e2e/deploy-fleet.e2e.ts.
import { describe, expect, test } from "vitest";
import { dashboards } from "../../deploy/grafana/dashboards.ts";
import { dashboardJson } from "../../deploy/grafana/panels.ts";
import { rulesOf, unknownNames } from "./promql-names.ts";

const recorded = new Set(rulesOf("recording-rules.yaml").map((rule) => rule.record ?? ""));

describe.each(Object.entries(dashboards))("dashboard %s", (_, dashboard) => {
  test("names only what exists", () => {
    const unknown = dashboard.panels.flatMap((panel) =>
      panel.queries.flatMap(({ expr }) => unknownNames(expr, recorded)),
    );
    expect(unknown).toEqual([]);
  });

  test("legends name labels their expression keeps", () => {
    for (const { expr, legend } of dashboard.panels.flatMap((panel) => panel.queries)) {
      for (const [, label] of legend.matchAll(/\{\{(\w+)\}\}/g)) {
        const recordedBy = /^1 - \w+:|^\w+:/.test(expr);
        if (!recordedBy) expect(expr, legend).toMatch(new RegExp(`by \\([^)]*\\b${label}\\b`));
      }
    }
  });

  test("every panel says what it shows and in which unit, and none overlaps another", () => {
    const { panels } = JSON.parse(dashboardJson(dashboard)) as {
      panels: {
        title: string;
        description: string;
        gridPos: { x: number; y: number; w: number; h: number };
      }[];
    };
    expect(new Set(panels.map((panel) => `${panel.gridPos.x} ${panel.gridPos.y}`)).size).toBe(panels.length);
    for (const { title, description, gridPos } of panels) {
      expect(description.length, title).toBeGreaterThan(20);
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
    }
  });
});
