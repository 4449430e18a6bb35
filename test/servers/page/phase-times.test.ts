// What pages say of the time their requests, or their calls of the model, were in execution.
import { expect, test } from "vitest";
import { parsePage } from "../../../agent/page/parse.ts";
import { serverTypes } from "../../../agent/servers/registry.ts";
import type { PageReading } from "../../../agent/source.ts";

function read(name: string, lines: readonly string[]): PageReading {
  const reader = serverTypes.find((type) => type.name === name)?.page;
  if (reader === undefined) throw new Error(`no server type "${name}" with a page`);
  return reader.read(parsePage(Buffer.from(`${lines.join("\n")}\n`), reader.families));
}

/** Two histograms of request time, by the labels of each part. */
function times(prefix: string, parts: Readonly<Record<string, readonly [number, number, number]>>): string[] {
  return Object.entries(parts).flatMap(([labels, [count, prefill, decode]]) => [
    `${prefix}request_prefill_time_seconds_bucket{${labels},le="+Inf"} ${count}`,
    `${prefix}request_prefill_time_seconds_sum{${labels}} ${prefill}`,
    `${prefix}request_prefill_time_seconds_count{${labels}} ${count}`,
    `${prefix}request_decode_time_seconds_sum{${labels}} ${decode}`,
    `${prefix}request_decode_time_seconds_count{${labels}} ${count}`,
  ]);
}

test.each([
  ["vllm", "vllm:"],
  ["aphrodite", "aphrodite:"],
  ["lmdeploy", "lmdeploy:"],
  ["tensorrt-llm", "trtllm_"],
])("%s sums what prefill and decode of its requests took over its engines", (name, prefix) => {
  const { phaseTimes } = read(name, [
    `${prefix}generation_tokens_total{model_name="m",engine="0"} 5`,
    ...times(prefix, {
      'model_name="m",engine="0"': [4, 0.25, 3],
      'model_name="m",engine="1"': [2, 0.5, 1.5],
    }),
  ]);
  expect(phaseTimes).toEqual({ requests: 6, prefillNanos: 750_000_000, decodeNanos: 4_500_000_000 });
});

test("a page with one of the two says nothing of phases", () => {
  const lines = times("vllm:", { 'model_name="m"': [4, 0.25, 3] }).filter((line) => !line.includes("decode"));
  const reading = read("vllm", ['vllm:generation_tokens_total{model_name="m"} 5', ...lines]);
  expect(reading).not.toHaveProperty("phaseTimes");
});

test("tgi was active while its calls of the model lasted", () => {
  const { activeNanos } = read("tgi", [
    "tgi_queue_size 0",
    "tgi_request_generated_tokens_sum 5",
    'tgi_batch_inference_duration_sum{method="prefill"} 2.5',
    'tgi_batch_inference_duration_sum{method="decode"} 7',
  ]);
  expect(activeNanos).toBe(9_500_000_000);
  expect(read("tgi", ["tgi_queue_size 0"])).not.toHaveProperty("activeNanos");
});
