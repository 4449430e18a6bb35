// The totals a receiver of OTLP got, as they were at any of the instants it got them for.
import { fromBinary } from "@bufbuild/protobuf";
import { ExportMetricsServiceRequestSchema } from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.ts";

type Attributes = Readonly<Record<string, string>>;

interface Series {
  readonly metric: string;
  readonly attributes: Attributes;
  /** Values by the nanosecond they are of, in order. */
  readonly points: Map<bigint, number>;
}

/** Cumulative series by metric and attributes. */
export class Received {
  readonly #series = new Map<string, Series>();

  constructor(bodies: readonly Uint8Array[]) {
    for (const body of bodies) this.#take(body);
  }

  /** Instants for which points of a metric came, in order. */
  instants(metric: string): readonly bigint[] {
    const all = this.#of(metric, {}).flatMap(({ points }) => [...points.keys()]);
    return [...new Set(all)].sort((left, right) => Number(left - right));
  }

  /** The sum of a metric's series of these attributes as it was at an instant. */
  at(metric: string, wanted: Attributes, instant: bigint): number {
    let sum = 0;
    for (const { points } of this.#of(metric, wanted))
      sum += [...points].findLast(([time]) => time <= instant)?.[1] ?? 0;
    return sum;
  }

  /** Its last value by one attribute. */
  by(key: string, metric: string, wanted: Attributes): Readonly<Record<string, number>> {
    const parts: Record<string, number> = {};
    for (const { attributes, points } of this.#of(metric, wanted)) {
      const name = attributes[key] ?? "";
      parts[name] = (parts[name] ?? 0) + ([...points.values()].at(-1) ?? 0);
    }
    return parts;
  }

  #of(metric: string, wanted: Attributes): readonly Series[] {
    return [...this.#series.values()].filter(
      (series) =>
        series.metric === metric &&
        Object.entries(wanted).every(([key, value]) => series.attributes[key] === value),
    );
  }

  #take(body: Uint8Array): void {
    const { resourceMetrics } = fromBinary(ExportMetricsServiceRequestSchema, body);
    const metrics = resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((one) => one.metrics));
    for (const { name, data } of metrics) {
      if (data.case !== "sum") continue;
      for (const point of data.value.dataPoints) {
        // NO_RECORDED_VALUE ends a series and carries no value.
        if ((point.flags & 1) !== 0) continue;
        const pairs = point.attributes.map(({ key, value }) => [key, String(value?.value.value)] as const);
        const key = JSON.stringify([name, pairs]);
        const known = this.#series.get(key) ?? {
          metric: name,
          attributes: Object.fromEntries(pairs),
          points: new Map<bigint, number>(),
        };
        this.#series.set(key, known);
        known.points.set(point.timeUnixNano, Number(point.value.value ?? 0));
      }
    }
  }
}
