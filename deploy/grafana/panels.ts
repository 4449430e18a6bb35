// Building blocks of Grafana dashboards (schema version 39, Grafana 10 and newer): a panel is a title, a question it
// answers and its queries; place and id follow from the order.

/** One query: an expression and how its series are called. */
export interface Query {
  readonly expr: string;
  readonly legend: string;
  /** Only the last value counts: tables, bars, stats. */
  readonly instant?: boolean;
}

export interface Panel {
  readonly title: string;
  readonly description: string;
  readonly type: "timeseries" | "stat" | "bargauge" | "table" | "heatmap" | "state-timeline";
  readonly unit: string;
  readonly queries: readonly Query[];
  readonly stacked?: boolean;
  /** Columns of 24. */
  readonly width?: number;
  readonly max?: number;
}

export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly from: string;
  readonly panels: readonly Panel[];
}

/** Matchers of the dashboard's variables, for every expression over raw series. */
export const SELECTED = ['k8s_cluster_name=~"$cluster"', 'host_name=~"$host"'];

const HEIGHT = 8;
const SOURCE = { type: "prometheus", uid: "$source" };

/** The dashboard as Grafana imports it. */
export function dashboardJson(dashboard: Dashboard): string {
  const { uid, title, description, from, panels } = dashboard;
  let x = 0;
  let y = 0;
  const placed = panels.map((panel, index) => {
    const width = panel.width ?? 12;
    if (x + width > 24) {
      x = 0;
      y += HEIGHT;
    }
    const gridPos = { x, y, w: width, h: HEIGHT };
    x += width;
    return panelJson(panel, index + 1, gridPos);
  });
  const json = {
    uid,
    title,
    description,
    tags: ["tokenwatt"],
    editable: true,
    schemaVersion: 39,
    version: 1,
    refresh: "30s",
    time: { from, to: "now" },
    templating: { list: variables() },
    panels: placed,
  };
  return `${JSON.stringify(json, null, 1)}\n`;
}

function panelJson(panel: Panel, id: number, gridPos: object): object {
  const { title, description, type, unit, queries, stacked, max } = panel;
  const stacking = { mode: stacked === true ? "normal" : "none" };
  return {
    id,
    title,
    description,
    type,
    gridPos,
    datasource: SOURCE,
    targets: queries.map(({ expr, legend, instant }, index) => ({
      refId: String.fromCharCode(65 + index),
      datasource: SOURCE,
      expr,
      legendFormat: legend,
      instant: instant === true,
      range: instant !== true,
    })),
    fieldConfig: {
      defaults: {
        unit,
        ...(max === undefined ? {} : { min: 0, max }),
        custom:
          type === "timeseries" ? { stacking, fillOpacity: stacked === true ? 40 : 8, spanNulls: false } : {},
      },
      overrides: [],
    },
    options:
      type === "timeseries"
        ? { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi" } }
        : {},
  };
}

function variables(): object[] {
  const query = (name: string, label: string) => ({
    name,
    label: name,
    type: "query",
    datasource: SOURCE,
    query: { query: `label_values(tokenwatt_gpu_time_seconds_total, ${label})`, refId: name },
    refresh: 2,
    includeAll: true,
    multi: true,
    allValue: ".*",
    current: { text: "All", value: "$__all" },
  });
  return [
    { name: "source", type: "datasource", query: "prometheus", label: "Data source" },
    query("cluster", "k8s_cluster_name"),
    query("host", "host_name"),
  ];
}
