// A board: its panels in rows of 24 columns, the choices above them, links to the others, and the marks on its time axis.
// Marks: servers whose counters began again, agents that began again, alerts that fire.
import { readFileSync } from "node:fs";
import * as dashboard from "@grafana/grafana-foundation-sdk/dashboard";
import { parse } from "yaml";
import { stateLooks } from "../../agent/platform/state-colours.ts";
import type { Panel } from "./panels.ts";
import { panelBuilder } from "./panels.ts";
import { chosen, ofAgent, SOURCE, variables } from "./variables.ts";

/** One board. */
export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly from: string;
  readonly panels: readonly Panel[];
}

const HEIGHT = 8;

/** The shipped alerts that fire, whoever else alerts in that Prometheus. */
export const firing = `ALERTS{alertstate="firing",alertname=~"${alertNames().join("|")}"}`;

/** The marks on the time axis of every board. */
export const marks = [
  {
    ...{ name: "Alerts", colour: "#ef6155", text: "{{alertname}} {{instance}}" },
    expr: `group by (alertname, instance, hw_id, tokenwatt_server_id) (${firing})`,
  },
  {
    ...{ name: "Server restarts", colour: stateLooks.parked.dark, text: "{{tokenwatt_source}} began again" },
    expr: `sum by (host_name, tokenwatt_source) (increase(${chosen("tokenwatt.counter_resets")}[$__interval])) > 0`,
  },
  {
    ...{
      name: "Agent restarts",
      colour: stateLooks.unobserved.dark,
      text: "tokenwatt of {{host_name}} began again",
    },
    expr: `min by (host_name) (process_uptime_seconds{${ofAgent.join(",")}}) < 60`,
  },
] as const;

/** The board as Grafana imports it. */
export function dashboardJson({ description, from, panels, title, uid }: Dashboard): string {
  const board = new dashboard.DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(["tokenwatt"])
    .editable()
    .version(1)
    .refresh("30s")
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .time({ from, to: "now" })
    .variables(variables())
    .link(
      new dashboard.DashboardLinkBuilder("tokenwatt")
        .type(dashboard.DashboardLinkType.Dashboards)
        .tags(["tokenwatt"])
        .asDropdown(false)
        .keepTime(true)
        .includeVars(true),
    );
  for (const { colour, expr, name, text } of marks) {
    board.annotation(
      new dashboard.AnnotationQueryBuilder()
        .name(name)
        .datasource(SOURCE)
        .enable(true)
        .iconColor(colour)
        .expr(expr)
        .titleFormat(name)
        .textFormat(text)
        .step("60s"),
    );
  }
  let [x, y] = [0, 0];
  panels.forEach((panel, index) => {
    const w = panel.width ?? 12;
    if (x + w > 24) [x, y] = [0, y + HEIGHT];
    board.withPanel(panelBuilder(panel, index + 1, { x, y, w, h: HEIGHT }));
    x += w;
  });
  return `${JSON.stringify(board.build(), null, 1)}\n`;
}

function alertNames(): string[] {
  const text = readFileSync(new URL("../prometheus/alerts.yaml", import.meta.url), "utf8");
  const { groups } = parse(text) as { groups: { rules: { alert?: string }[] }[] };
  return groups.flatMap(({ rules }) => rules.flatMap(({ alert }) => (alert === undefined ? [] : [alert])));
}
