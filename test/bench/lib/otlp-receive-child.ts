// The measuring half of otlp-receive.ts: prints its facts as one JSON line. Generated code holds enums, so Node must be
// told to transform types: `node --experimental-transform-types test/bench/lib/otlp-receive-child.ts`.
import { fromBinary } from "@bufbuild/protobuf";
import { MetricsReader } from "../../../agent/servers/otlp/metrics.ts";
import { SeriesTable } from "../../../agent/servers/otlp/series.ts";
import { UsageTotals } from "../../../agent/servers/receive/usage-totals.ts";
import { ExportMetricsServiceRequestSchema } from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.ts";
import { metricsRequest } from "../../servers/otlp-messages.ts";

const POINTS = 10_000;
const ROUNDS = 24;

function measure(): Readonly<Record<string, number>> {
  const requests = Array.from({ length: 4 }, (_, round) => requestOf(round));
  const totals = new UsageTotals(
    { id: "bench", type: "otlp", family: "gateway", address: "", pollMs: 1000 },
    0,
    "received:0",
  );
  const reader = new MetricsReader(new SeriesTable(0), { tenantAttribute: "team_id" });
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = requests[round % requests.length] as Buffer;
    ours.push(timed(() => void reader.take(bytes, totals, () => true)));
    theirs.push(timed(() => void fromBinary(ExportMetricsServiceRequestSchema, bytes)));
  }
  const [receive, decode] = [median(ours), median(theirs)];
  return {
    request_bytes: requests[0]?.length ?? 0,
    receive_10k_ms: receive,
    bufbuild_decode_10k_ms: decode,
    ratio: decode / receive,
    points_per_s: (POINTS / receive) * 1000,
  };
}

function requestOf(round: number): Buffer {
  const points = Array.from({ length: POINTS }, (_, index) => ({
    sum: index + round * 17,
    start: 1_795_420_000_000_000_000,
    time: 1_795_420_000_000_000_000 + round * 1e9,
    attributes: {
      "gen_ai.operation.name": "chat",
      "gen_ai.provider.name": "openai",
      "gen_ai.request.model": `model-${index % 40}`,
      "gen_ai.response.model": `model-${index % 40}`,
      "gen_ai.token.type": index % 2 === 0 ? "input" : "output",
      "server.address": `10.0.${index >> 8}.${index & 255}`,
      team_id: `team-${index % 20}`,
    },
    buckets: [1, 2, 3, 4, 0, 0, 1, 1],
    bounds: [1, 4, 16, 64, 256, 1024, 4096],
  }));
  return metricsRequest([{ name: "gen_ai.client.token.usage", histogram: true, points }]);
}

function timed(run: () => void): number {
  const began = process.hrtime.bigint();
  run();
  return Number(process.hrtime.bigint() - began) / 1e6;
}

/** The median of the later two thirds: the first rounds meet every series for the first time. */
function median(values: readonly number[]): number {
  const later = values.slice(Math.floor(values.length / 3)).toSorted((a, b) => a - b);
  return later[later.length >> 1] ?? 0;
}

console.log(JSON.stringify(measure()));
