// envoyproxy/ratelimit with USE_PROMETHEUS, or a statsd exporter with the mapping it brings (src/stats/prom). All in hits: a
// call adds as many as its `hits_addend`. Of a call that crosses its limit only the hits above it are over, and the rest is
// nowhere; over_limit has those of limits in shadow mode as well. near_limit is part of the others. A third key and those
// after it are left out of the labels by that mapping, so that such limits share a series.
import type { LimiterType } from "./limiter.ts";

const PREFIX = "ratelimit_service_rate_limit";

/** envoyproxy/ratelimit. */
export const envoyRatelimit: LimiterType = {
  name: "envoy-ratelimit",
  counters: [
    { family: `${PREFIX}_within_limit`, counted: "hits", decided: "allow" },
    { family: `${PREFIX}_over_limit`, counted: "hits", decided: "limit" },
    { family: `${PREFIX}_shadow_mode`, counted: "hits", decided: "would_limit", within: "limit" },
  ],
  signs: [
    `${PREFIX}_total_hits`,
    "ratelimit_service_config_load_success",
    "ratelimit_service_config_load_error",
  ],
  limitOf: (labels) => {
    const keys = Object.keys(labels).filter((label) => /^key\d+$/.test(label));
    keys.sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)));
    return [labels["domain"] ?? "", ...keys.map((key) => labels[key] ?? "")].filter(Boolean).join("/");
  },
};
