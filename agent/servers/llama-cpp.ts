// llama.cpp's server (tools/server, --metrics; recorded from 0.5.0). No labels: the model's name is the configuration's to
// give. Its header Process-Start-Time-Unix counts microseconds of the monotonic clock: it distinguishes runs, no more.
// Volume: prompt_tokens_total (evaluated tokens, prefix hits excluded) and tokens_predicted_total, when a slot is
// released. Values have six significant digits: above 1e6 they move in steps of 10, above 1e7 of 100, and so on.
// Progress: n_decode_total, once per decode call. The rate gauges are means since the last scrape of anyone and never
// used. Router mode answers 400 without ?model=, and loads the model named unless asked not to, so it is asked not to.
import { textServer } from "./page/server.ts";

/** llama.cpp's llama-server. */
export const llamaCpp = textServer({
  name: "llama-cpp",
  family: "engine",
  port: 8080,
  path: "/metrics",
  volume: "finish",
  labels: {},
  epochHeader: "process-start-time-unix",
  harmless: (url) => (/[?&]model=/.test(url) && !/[?&]autoload=/.test(url) ? `${url}&autoload=false` : url),
  families: [
    "llamacpp_prompt_tokens",
    "llamacpp_prompt_tokens_cached",
    "llamacpp_tokens_predicted",
    "llamacpp_prompt_seconds",
    "llamacpp_tokens_predicted_seconds",
    "llamacpp_n_decode",
    "llamacpp_n_busy_slots_per_decode",
    "llamacpp_requests_processing",
    "llamacpp_requests_deferred",
    // Until https://github.com/ggml-org/llama.cpp/pull/13660.
    "llamacpp_kv_cache_usage_ratio",
  ],
  recognises: (page) =>
    page.samples.has("llamacpp_tokens_predicted") || page.samples.has("llamacpp_requests_processing")
      ? "llamacpp:* families"
      : undefined,
  read: (readings) => {
    if (readings.role !== "decode") readings.tokens("input_uncached", "llamacpp_prompt_tokens");
    if (readings.role !== "decode") readings.tokens("input_cached", "llamacpp_prompt_tokens_cached");
    readings.tokens("output", "llamacpp_tokens_predicted");
    const [decodes] = readings.counters("llamacpp_n_decode");
    const [prompt] = readings.counters("llamacpp_prompt_tokens");
    if (decodes !== undefined) readings.of(decodes.labels).progress(prompt?.value ?? 0, decodes.value);
    readings.progressMoves("step");
    // Slot seconds add up to active time only while one slot works at a time.
    const [slots] = readings.gauges("llamacpp_n_busy_slots_per_decode");
    const [prefill] = readings.counters("llamacpp_prompt_seconds");
    const [predict] = readings.counters("llamacpp_tokens_predicted_seconds");
    if (slots !== undefined && slots.value <= 1 && prefill !== undefined && predict !== undefined) {
      readings.active(prefill.value + predict.value);
    }
    readings.inFlight("running", "llamacpp_requests_processing");
    readings.inFlight("waiting", "llamacpp_requests_deferred");
    readings.kvCache("llamacpp_kv_cache_usage_ratio");
    readings.epoch();
  },
});
