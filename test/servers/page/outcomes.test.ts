// Which pages say how the requests in their latency histograms ended. Where a page does not, no outcome is read: a request of
// which nothing is known is not one that went well.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parsePage } from "../../../agent/page/parse.ts";
import { serverTypes } from "../../../agent/servers/registry.ts";

/** A histogram of as many observations as each outcome's labels say. */
const histogram = (family: string, parts: Readonly<Record<string, number>>): string[] =>
  Object.entries(parts).flatMap(([labels, count]) => [
    `${family}_bucket{${labels === "" ? "" : `${labels},`}le="1"} ${count}`,
    `${family}_bucket{${labels === "" ? "" : `${labels},`}le="+Inf"} ${count}`,
    `${family}_sum{${labels}} ${count / 2}`,
    `${family}_count{${labels}} ${count}`,
  ]);
const scope = 'otel_scope_name="envoyproxy/ai-gateway"';

const pages: readonly (readonly [name: string, page: readonly string[], latencies: object])[] = [
  [
    "bifrost",
    [
      'bifrost_output_tokens_total{model="m"} 5',
      ...histogram("bifrost_upstream_latency_seconds", {
        'model="m",is_success="true"': 5,
        'model="m",is_success="false"': 2,
        'model="m"': 3,
      }),
    ],
    { request_duration: 3, "request_duration ok": 5, "request_duration error": 2 },
  ],
  [
    "envoy-ai-gateway",
    [
      `gen_ai_client_token_usage_sum{gen_ai_token_type="output",${scope}} 5`,
      ...histogram("gen_ai_server_request_duration_seconds", {
        [scope]: 4,
        [`error_type="_OTHER",${scope}`]: 1,
      }),
      ...histogram("gen_ai_server_time_to_first_token_seconds", { [scope]: 5 }),
    ],
    { "request_duration ok": 4, "request_duration error": 1, time_to_first_token: 5 },
  ],
  [
    "agentgateway",
    [
      'agentgateway_gen_ai_client_token_usage_sum{gen_ai_token_type="output"} 5',
      ...histogram("agentgateway_gen_ai_server_request_duration", { "": 4, 'error_type="_OTHER"': 3 }),
    ],
    { request_duration: 4, "request_duration error": 3 },
  ],
  [
    "kong",
    [
      'kong_ai_llm_tokens{token_type="completion_tokens"} 5',
      ...histogram("kong_ai_llm_provider_latency_ms", { "": 7 }),
    ],
    { request_duration: 7 },
  ],
  [
    "tgi",
    [
      "tgi_request_success 6",
      'tgi_request_failure{err="overloaded"} 1',
      ...histogram("tgi_request_duration", { "": 6 }),
    ],
    { "request_duration ok": 6 },
  ],
];

test.each(pages)("%s", (name, lines, wanted) => {
  const type = serverTypes.find((one) => one.name === name);
  const { readings } = type?.page?.read(parsePage(Buffer.from(`${lines.join("\n")}\n`))) ?? { readings: [] };
  const found: Record<string, number> = {};
  for (const { latencies = {} } of readings)
    for (const [key, { count }] of Object.entries(latencies)) found[key] = (found[key] ?? 0) + count;
  expect(found).toEqual(wanted);
});

test("agentgateway: what failed is counted as a request too, though it used no token", () => {
  const lines = pages.find(([name]) => name === "agentgateway")?.[1] ?? [];
  const type = serverTypes.find((one) => one.name === "agentgateway");
  const page = parsePage(Buffer.from(`${lines.join("\n")}\n`));
  expect(type?.page?.read(page).readings.map(({ requests }) => requests)).toEqual([{ error: 3 }]);
});

test("LiteLLM's recording has durations of what went well alone, as many as requests that did", () => {
  const file = new URL("../../fixtures/servers/litellm-1.89.7-teams-and-failures.prom", import.meta.url);
  const type = serverTypes.find((one) => one.name === "litellm");
  const { readings } = type?.page?.read(parsePage(readFileSync(file))) ?? { readings: [] };
  let [ok, failed, observed] = [0, 0, 0];
  for (const { latencies = {}, requests } of readings) {
    ok += requests.ok ?? 0;
    failed += (requests.error ?? 0) + (requests.rejected ?? 0);
    observed += latencies["request_duration ok"]?.count ?? 0;
    expect(Object.keys(latencies).every((key) => key.endsWith(" ok"))).toBe(true);
  }
  expect([observed, failed > 0]).toEqual([ok, true]);
});

test("LiteLLM: a failure whose status nothing tells is an error", () => {
  const page = 'litellm_proxy_total_requests_metric_total{requested_model="m",status_code="None"} 2\n';
  const type = serverTypes.find((one) => one.name === "litellm");
  expect(type?.page?.read(parsePage(Buffer.from(page))).readings.map(({ requests }) => requests)).toEqual([
    { error: 2 },
  ]);
});
