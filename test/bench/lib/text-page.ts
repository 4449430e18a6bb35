// A metric page shaped like vLLM's with many engines: gauges, counters with start times, and mostly histogram buckets.

const BOUNDS = [
  "0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "7.5",
  "10.0", "20.0", "40.0", "80.0", "160.0", "640.0", "2560.0", "+Inf",
]; // biome-ignore format: a table

const HISTOGRAMS = [
  "time_to_first_token_seconds",
  "inter_token_latency_seconds",
  "e2e_request_latency_seconds",
  "request_queue_time_seconds",
  "request_prefill_time_seconds",
  "request_decode_time_seconds",
  "iteration_tokens_total",
];
const COUNTERS = ["prompt_tokens", "generation_tokens", "prompt_tokens_cached", "num_preemptions"];
const GAUGES = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"];

/** A page of about `series` sample lines; `round` moves every value and nothing else. */
export function vllmPage(series: number, round: number): string {
  const perEngine = HISTOGRAMS.length * (BOUNDS.length + 3) + COUNTERS.length * 2 + GAUGES.length;
  const engines = Math.ceil(series / perEngine);
  const lines: string[] = [];
  const each = (name: string, type: string, line: (engine: string, index: number) => void): void => {
    lines.push(`# HELP vllm:${name} What ${name} says.`, `# TYPE vllm:${name} ${type}`);
    for (let engine = 0; engine < engines; engine++) line(`engine="${engine}"`, engine);
  };
  const model = 'model_name="meta-llama/Llama-3.3-70B-Instruct"';
  for (const name of GAUGES)
    each(name, "gauge", (engine, index) => lines.push(`vllm:${name}{${engine},${model}} ${index + round}.0`));
  for (const name of COUNTERS) {
    each(`${name}_total`, "counter", (engine, index) =>
      lines.push(`vllm:${name}_total{${engine},${model}} ${python(8_128_902 + index * 1717 + round * 977)}`),
    );
    each(`${name}_created`, "gauge", (engine) =>
      lines.push(`vllm:${name}_created{${engine},${model}} 1.7954209139811811e+09`),
    );
  }
  for (const name of HISTOGRAMS) {
    each(name, "histogram", (engine, index) => {
      for (const [place, bound] of BOUNDS.entries())
        lines.push(
          `vllm:${name}_bucket{${engine},le="${bound}",${model}} ${python(place * 9973 + index * 31 + round * (place + 1))}`,
        );
      lines.push(`vllm:${name}_count{${engine},${model}} ${python(BOUNDS.length * 9973 + round * 23)}`);
      lines.push(`vllm:${name}_sum{${engine},${model}} ${(15.5 * (index + 1) + round / 3).toString()}`);
      lines.push(`vllm:${name}_created{${engine},${model}} 1.7954209139811811e+09`);
    });
  }
  return `${lines.join("\n")}\n`;
}

/** A number as the python client writes it. */
function python(value: number): string {
  if (value < 1e6) return `${value}.0`;
  const exponent = Math.floor(Math.log10(value));
  return `${value / 10 ** exponent}e+0${exponent}`;
}
