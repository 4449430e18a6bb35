// The text on /metrics: a golden list of names, the grammar of both formats, and the same values as OTLP.
import fc from "fast-check";
import parsePrometheus from "parse-prometheus-text-format";
import { describe, expect, test } from "vitest";
import { metrics } from "../../agent/export/metrics/metrics.ts";
import { prometheusLabel, prometheusName } from "../../agent/export/metrics/prometheus-names.ts";
import { createPrometheusWriter, negotiate, withoutTenants } from "../../agent/export/prometheus.ts";
import { selfMetrics } from "../../agent/export/self/names.ts";
import { readSelf } from "../../agent/export/self/points.ts";
import { fixedStats } from "./self/fixed-stats.ts";
import { arbitrarySnapshot, point, snapshot, T0 } from "./snapshots.ts";

const resource = {
  "service.name": "tokenwatt",
  "host.name": "gpu-1",
  "k8s.node.name": "node-a",
  "k8s.cluster.name": "east",
};
const labels = 'host_name="gpu-1",k8s_cluster_name="east",k8s_node_name="node-a"';

describe("prometheusName()", () => {
  test("is the golden list", async () => {
    const list = [...metrics, ...Object.values(selfMetrics)]
      .map((metric) => `${metric.name} ${prometheusName(metric)}`)
      .join("\n");
    await expect(`${list}\n`).toMatchFileSnapshot("../fixtures/export/prometheus-names.txt");
  });

  test("follows the translator: unit word, _total, _ratio, annotations dropped, nothing twice", () => {
    const row = { ...(metrics[0] as (typeof metrics)[number]) };
    const name = (rest: object): string => prometheusName({ ...row, ...rest });
    expect(name({ name: "hw.energy", unit: "J" })).toBe("hw_energy_joules_total");
    expect(name({ name: "hw.power", unit: "W", kind: "gauge" })).toBe("hw_power_watts");
    expect(name({ name: "a.total.b", unit: "{x}" })).toBe("a_b_total");
    expect(name({ name: "a.seconds", unit: "s", kind: "gauge" })).toBe("a_seconds");
    expect(name({ name: "a..b-c", unit: "1", kind: "gauge" })).toBe("a_b_c_ratio");
    expect(name({ name: "hw.status", unit: "1", kind: "level" })).toBe("hw_status");
  });

  test("prometheusLabel() keeps what is legal and never begins with a digit", () => {
    expect(prometheusLabel("gen_ai.request.model")).toBe("gen_ai_request_model");
    expect(prometheusLabel("1st-key")).toBe("key_1st_key");
  });
});

describe("createPrometheusWriter()", () => {
  const writer = createPrometheusWriter(resource);
  const histogram = { bounds: [0.5, 2], counts: [1, 2, 3], sum: 9.5, count: 6 };
  const given = snapshot([
    point("tokenwatt.gpu.time", 1_500_000_000n, { dimensions: { "hw.id": 'GPU-"1"\\\n' } }),
    point("tokenwatt.server.queue_time", histogram, { series: 2 }),
    point("hw.power", 300.5, { series: 3 }),
    point("tokenwatt.tokens", 2n ** 60n + 1n, { series: 4 }),
    point("tokenwatt.requests", 5n, { series: 5, ended: true }),
  ]);

  test("shows what the agent says of itself behind the rest, every row of its table, from its start", () => {
    const text = writer.write(snapshot([]), "openmetrics", readSelf(fixedStats, T0));
    for (const metric of Object.values(selfMetrics)) {
      const name = prometheusName(metric);
      expect(text).toMatch(
        new RegExp(`^${name}${metric.kind === "histogram" ? "_bucket" : ""}\\{.*host_name=`, "m"),
      );
    }
    const to = `${labels},otel_component_name="otlp_grpc_metric_exporter/main",otel_component_type="otlp_grpc_metric_exporter"`;
    const points = "otel_sdk_exporter_metric_data_point_exported";
    expect(text).toContain(`${points}_total{${to},tokenwatt_destination="main"} 12\n`);
    expect(text).toContain(`${points}_total{error_type="partial",${to},tokenwatt_destination="main"} 3\n`);
    const [, created] = /_points_created\{[^}]*\} (\S+)/.exec(text) ?? [];
    expect(Number(T0) / 1e9 - Number(created)).toBeCloseTo(process.uptime(), 0);
    expect(() => parsePrometheus(text)).not.toThrow();
  });

  test("writes format 0.0.4", () => {
    expect(writer.write(given, "prometheus")).toBe(
      `# HELP target_info Target metadata
# TYPE target_info gauge
target_info{host_name="gpu-1",k8s_cluster_name="east",k8s_node_name="node-a",service_name="tokenwatt"} 1
# HELP tokenwatt_gpu_time_seconds_total Seconds of a GPU by the one state it was in; the six states sum to wall time
# TYPE tokenwatt_gpu_time_seconds_total counter
tokenwatt_gpu_time_seconds_total{host_name="gpu-1",hw_id="GPU-\\"1\\"\\\\\\n",k8s_cluster_name="east",k8s_node_name="node-a"} 1.5
# HELP tokenwatt_server_queue_time_seconds Time a request waited at the server
# TYPE tokenwatt_server_queue_time_seconds histogram
tokenwatt_server_queue_time_seconds_bucket{${labels},le="0.5"} 1
tokenwatt_server_queue_time_seconds_bucket{${labels},le="2.0"} 3
tokenwatt_server_queue_time_seconds_bucket{${labels},le="+Inf"} 6
tokenwatt_server_queue_time_seconds_sum{${labels}} 9.5
tokenwatt_server_queue_time_seconds_count{${labels}} 6
# HELP hw_power_watts GPU power, the mean of the driver's last second where it offers one
# TYPE hw_power_watts gauge
hw_power_watts{${labels}} 300.5
# HELP tokenwatt_tokens_total Tokens processed by an inference server; the kinds are disjoint and add up
# TYPE tokenwatt_tokens_total counter
tokenwatt_tokens_total{${labels}} 1152921504606846977
`,
    );
  });

  test("writes OpenMetrics with units, created times and an end", () => {
    const text = writer.write(given, "openmetrics");
    expect(text).toContain(
      "# TYPE tokenwatt_gpu_time_seconds counter\n# UNIT tokenwatt_gpu_time_seconds seconds\n",
    );
    expect(text).toContain(`tokenwatt_tokens_created{${labels}} ${T0 / 1_000_000_000n}.000\n`);
    expect(text).toContain(`tokenwatt_server_queue_time_seconds_created{${labels}}`);
    expect(text).toContain("# TYPE target info\ntarget_info{");
    expect(text).not.toContain("hw_power_watts_created");
    expect(text.endsWith("# EOF\n")).toBe(true);
  });

  test("leaves out ended series and has no scope labels", () => {
    const text = writer.write(given, "prometheus");
    expect(text).not.toContain("tokenwatt_requests_total");
    expect(text).not.toContain("otel_scope");
  });

  test("is readable by a foreign parser for any snapshot, one sample per live point", () => {
    fc.assert(
      fc.property(arbitrarySnapshot, (any) => {
        const families = parsePrometheus(createPrometheusWriter(resource).write(any, "prometheus"));
        const names = new Set(any.points.filter((one) => !one.ended).map((one) => one.metric));
        expect(families.length).toBe(names.size + 1);
      }),
      { numRuns: 60 },
    );
  });
});

describe("negotiate()", () => {
  test.each([
    [undefined, "prometheus"],
    ["*/*", "prometheus"],
    ["text/plain", "prometheus"],
    ["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2", "openmetrics"],
    ["application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.9", "prometheus"],
    ["application/openmetrics-text; version=2.0.0", "prometheus"],
    ["application/vnd.google.protobuf;q=0.9,application/openmetrics-text;version=1.0.0;q=0.8", "openmetrics"],
  ])("answers %s with %s", (accept, format) => {
    expect(negotiate(accept)).toBe(format);
  });
});

test("withoutTenants() drops every series of a tenant, or of a limit that may be named by one, and nothing else", () => {
  const given = snapshot([
    point("tokenwatt.gateway.tokens", 5n, { dimensions: { "tokenwatt.tenant": "blue" } }),
    point("tokenwatt.tokens", 7n, { dimensions: { "tokenwatt.server.id": "chat" } }),
    point("tokenwatt.limiter.hits", 5n, { dimensions: { "tokenwatt.limiter.limit": "d/blue" } }),
  ]);
  expect(withoutTenants(given)?.points).toEqual([given.points[1]]);
  expect(withoutTenants(undefined)).toBeUndefined();
});
