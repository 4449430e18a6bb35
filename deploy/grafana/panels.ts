// Panels as data, and what Grafana's Foundation SDK makes of them. The SDK knows which options each type of panel has, so
// that a misspelled one fails to compile: Grafana itself would ignore it without a word.
// A panel is a title, a question it answers and its queries; place and number follow from the order.
import * as bargauge from "@grafana/grafana-foundation-sdk/bargauge";
import * as common from "@grafana/grafana-foundation-sdk/common";
import * as dashboard from "@grafana/grafana-foundation-sdk/dashboard";
import * as heatmap from "@grafana/grafana-foundation-sdk/heatmap";
import * as prometheus from "@grafana/grafana-foundation-sdk/prometheus";
import * as stat from "@grafana/grafana-foundation-sdk/stat";
import * as table from "@grafana/grafana-foundation-sdk/table";
import * as timeseries from "@grafana/grafana-foundation-sdk/timeseries";
import { stateLooks, stateOrder } from "../../agent/platform/state-colours.ts";
import { followed, SOURCE } from "./variables.ts";

/** One query: an expression and how its series are called; in a table how its column is. */
export interface Query {
  readonly expr: string;
  readonly legend: string;
  /** Only the last value counts: bars, stats. Tables always ask so. */
  readonly instant?: boolean;
}

/** From this value on the colour holds. */
export type Threshold = readonly [from: number | null, colour: "green" | "yellow" | "red"];

/** One panel. */
export interface Panel {
  readonly title: string;
  readonly description: string;
  readonly type: "timeseries" | "stat" | "bargauge" | "table" | "heatmap";
  readonly unit: string;
  readonly queries: readonly Query[];
  readonly stacked?: boolean;
  /** Columns of 24. */
  readonly width?: number;
  readonly max?: number;
  readonly thresholds?: readonly Threshold[];
  /** Shown where there is nothing, and nothing is good news. */
  readonly whenEmpty?: string;
  /** Units of columns of a table that have another. */
  readonly columnUnits?: Readonly<Record<string, string>>;
  /** A label of which each value leads to its page: the name of an alert. */
  readonly runbookOf?: string;
}

/** Where a panel stands. */
export type Place = dashboard.GridPos;

type AnyBuilder =
  | timeseries.PanelBuilder
  | stat.PanelBuilder
  | bargauge.PanelBuilder
  | table.PanelBuilder
  | heatmap.PanelBuilder;

const MAKERS: Readonly<Record<Panel["type"], (panel: Panel) => AnyBuilder>> = {
  timeseries: ({ stacked, thresholds }) => {
    const made = new timeseries.PanelBuilder()
      .fillOpacity(stacked === true ? 60 : 8)
      .lineWidth(1)
      .spanNulls(false)
      .showPoints(common.VisibilityMode.Never)
      .stacking(
        new common.StackingConfigBuilder().mode(
          stacked === true ? common.StackingMode.Normal : common.StackingMode.None,
        ),
      )
      .legend(
        new common.VizLegendOptionsBuilder()
          .displayMode(common.LegendDisplayMode.List)
          .placement(common.LegendPlacement.Bottom)
          .showLegend(true),
      )
      .tooltip(new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi));
    const style = new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed);
    return thresholds === undefined ? made : made.thresholdsStyle(style);
  },
  stat: () =>
    new stat.PanelBuilder()
      .colorMode(common.BigValueColorMode.Value)
      .graphMode(common.BigValueGraphMode.None)
      .reduceOptions(lastValue()),
  bargauge: () =>
    new bargauge.PanelBuilder().orientation(common.VizOrientation.Horizontal).reduceOptions(lastValue()),
  table: ({ queries }) =>
    new table.PanelBuilder()
      .withTransformation({ id: "merge", options: {} })
      .withTransformation({ id: "organize", options: columnsOf(queries) }),
  heatmap: () => new heatmap.PanelBuilder().calculate(false),
};

/** Stats and bars show the newest value there is. */
function lastValue() {
  return new common.ReduceDataOptionsBuilder().calcs(["lastNotNull"]);
}

/** A table's columns: the time of an instant query says nothing, a value is called as its query is. */
function columnsOf(queries: readonly Query[]): object {
  const renameByName = Object.fromEntries(
    queries.map(({ legend }, index) => [queries.length === 1 ? "Value" : `Value #${letter(index)}`, legend]),
  );
  return { excludeByName: { Time: true }, renameByName };
}

/** The panel as Grafana's builder has it. */
export function panelBuilder(panel: Panel, id: number, place: Place): AnyBuilder {
  const { description, max, queries, title, type, unit, whenEmpty } = panel;
  const follows = followed(queries.map(({ expr }) => expr));
  const about = follows.length === 0 ? description : `${description}\n\nFollows: ${follows.join(", ")}.`;
  const made = MAKERS[type](panel)
    .id(id)
    .title(title)
    .description(about)
    .datasource(SOURCE)
    .gridPos(place)
    .unit(unit)
    .targets(queries.map((query, index) => target(query, index, type)));
  if (max !== undefined) made.min(0).max(max);
  if (whenEmpty !== undefined) made.noValue(whenEmpty);
  colour(made, panel);
  for (const [column, of] of Object.entries(panel.columnUnits ?? {}))
    made.overrideByName(column, [{ id: "unit", value: of }]);
  if (panel.runbookOf !== undefined) {
    const link = { title: "Runbook", url: "$" + "{runbooks}$" + "{__value.raw}.md", targetBlank: true };
    made.overrideByName(panel.runbookOf, [{ id: "links", value: [link] }]);
  }
  return made;
}

/** Thresholds where there are some, and each state in its one colour wherever a series is called by it. */
function colour(made: AnyBuilder, { queries, thresholds, type }: Panel): void {
  if (thresholds !== undefined) {
    const steps = thresholds.map(([value, color]) => ({ value, color }));
    made.thresholds(
      new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute).steps(steps),
    );
  } else if (type === "stat") {
    made.colorScheme(
      new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.Fixed).fixedColor("text"),
    );
  }
  for (const state of stateOrder) {
    const named = stateLooks[state].label;
    if (!queries.some(({ legend }) => legend === named || legend.startsWith(`${named} `))) continue;
    const color = { mode: "fixed", fixedColor: stateLooks[state].dark };
    made.overrideByRegexp(`/^${named}( |$)/`, [{ id: "color", value: color }]);
  }
}

function target({ expr, instant, legend }: Query, index: number, type: Panel["type"]) {
  const query = new prometheus.DataqueryBuilder().refId(letter(index)).datasource(SOURCE).expr(expr);
  if (type === "table") return query.format(prometheus.PromQueryFormat.Table).instant();
  query.legendFormat(legend);
  return instant === true ? query.instant() : query.range();
}

function letter(index: number): string {
  return String.fromCharCode(65 + index);
}
