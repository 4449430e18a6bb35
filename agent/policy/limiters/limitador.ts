// Limitador (limitador-server/src/prometheus_metrics.rs, 2.x): calls by namespace, and what was limited by the limit's name
// where it runs with --limit-name-in-labels. Limited calls have no hits of their own. Labels of its own configuration
// are summed over. Written by its source and its tests, not by a recording.
import type { LimiterType } from "./limiter.ts";

/** Limitador. */
export const limitador: LimiterType = {
  name: "limitador",
  counters: [
    { family: "authorized_calls", counted: "calls", decided: "allow" },
    { family: "limited_calls", counted: "calls", decided: "limit" },
    { family: "authorized_hits", counted: "hits", decided: "allow" },
  ],
  signs: ["limitador_up"],
  limitOf: ({ limit_name: name = "", limitador_namespace: namespace = "" }) =>
    [namespace, name].filter(Boolean).join("/"),
};
