// Dashboards without Grafana: every expression names series and labels that exist, and the panels asked for are there.
// That every expression evaluates, and shows something, is tested in test/e2e/deploy-fleet.e2e.ts.
import { describe, expect, test } from "vitest";
import { dashboards } from "../../deploy/grafana/dashboards.ts";
import { dashboardJson } from "../../deploy/grafana/panels.ts";
import { picture } from "../../deploy/grafana/picture.ts";
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

test("picture() draws what was answered and says where nothing was", () => {
  const panel = {
    title: "A & B",
    description: "",
    type: "timeseries",
    unit: "watt",
    queries: [],
    width: 12,
  } as const;
  const series = [
    {
      metric: { a: "x" },
      values: [
        [0, "1"],
        [5, "3"],
      ] as [number, string][],
    },
  ];
  const svg = picture("t", [
    { panel, answers: [{ legend: "{{a}}", series }] },
    { panel, answers: [] },
  ]);
  expect(svg).toContain("A &amp; B");
  expect(svg).toContain(">x</text>");
  expect(svg).toContain("3 W");
  expect(svg).toContain("no data: not known here");
});
