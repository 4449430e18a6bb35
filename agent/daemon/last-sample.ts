// What is remembered of a server's last sample. Of an engine that is all of it. A gateway shows a label set for each of its
// customers, thousands of readings at every poll: what they counted is in the increments, and what is asked of the gateway
// between two polls (its models, its runs, what is in flight) is in a reading or two.
import type { TokenReading, TokenSample } from "../model.ts";

const NOTHING = {};

/** The sample, of a gateway without what its customers counted: a reading for each of its models and runs. */
export function lastSampleOf(sample: TokenSample): TokenSample {
  return sample.family === "gateway" ? { ...sample, readings: withoutCustomers(sample.readings) } : sample;
}

function withoutCustomers(readings: readonly TokenReading[]): readonly TokenReading[] {
  const kept: TokenReading[] = [];
  /** The last one kept of each model. */
  const byModel = new Map<string | undefined, TokenReading>();
  for (let place = 0; place < readings.length; place++) {
    const reading = readings[place] as TokenReading;
    const known = byModel.get(reading.model);
    if (known !== undefined && !saysMore(reading, known)) continue;
    const one = withoutCounts(reading);
    byModel.set(reading.model, one);
    kept.push(one);
  }
  return kept;
}

function saysMore(reading: TokenReading, { epoch, role }: TokenReading): boolean {
  return (
    reading.epoch !== epoch ||
    reading.role !== role ||
    reading.running !== undefined ||
    reading.waiting !== undefined ||
    reading.kvCacheUtilization !== undefined
  );
}

function withoutCounts({
  epoch,
  kvCacheUtilization,
  model,
  role,
  running,
  volume,
  waiting,
}: TokenReading): TokenReading {
  return {
    ...{ role, volume, tokens: NOTHING, requests: NOTHING },
    ...(model === undefined ? {} : { model }),
    ...(epoch === undefined ? {} : { epoch }),
    ...(running === undefined ? {} : { running }),
    ...(waiting === undefined ? {} : { waiting }),
    ...(kvCacheUtilization === undefined ? {} : { kvCacheUtilization }),
  };
}
