// Money by interval: what the GPU-seconds cost, at the price in force (METERING.md 6). What tokens earn: billing.ts.
// Cost accrues on every GPU-second with a known price, unobserved included; each second is charged once, to the server
// that holds it or to none. Amounts are integers of 1e-9 of the currency; remainders are carried.
import type { Dimensions, GpuInfo, GpuInterval, Posting, SettledInterval, UnixNanos } from "../../model.ts";
import { allocatedStates } from "../gpu-amounts.ts";
import { HolderSets, holderKey } from "../holders.ts";
import { bucketOfEnd } from "../ledger/grid.ts";
import type { MeterFacts } from "../meter.ts";
import { gpuStates } from "../meter.ts";
import { modelAttributes } from "../names.ts";
import type { Catalogue } from "./catalogue.ts";
import { inForce, productRank } from "./catalogue.ts";
import { Remainders } from "./split.ts";

const nanosPerHour = 3_600_000_000_000n;
/** Millijoules per kilowatt-hour, times the thousandths of the usage effectiveness. */
const energyDivisor = 3_600_000_000n * 1000n;

/** Prices intervals by one catalogue. */
export class Prices {
  readonly #catalogue: Catalogue;
  readonly remainders = new Remainders();
  readonly holders = new HolderSets();
  /** What was already counted as missing in this bucket. */
  readonly #missed = new Set<string>();
  #bucket = 0n;

  constructor(catalogue: Catalogue) {
    this.#catalogue = catalogue;
  }

  get version(): string {
    return this.#catalogue.version;
  }

  /** Cost and misses of one interval that ended at `end`. */
  priceInterval(interval: SettledInterval, facts: MeterFacts, end: UnixNanos): readonly Posting[] {
    const bucket = bucketOfEnd(end);
    if (bucket !== this.#bucket) this.#missed.clear();
    this.#bucket = bucket;
    const posted: Posting[] = [];
    for (const gpu of interval.gpus) this.#gpu(posted, gpu, facts, end);
    return posted;
  }

  #gpu(posted: Posting[], gpu: GpuInterval, facts: MeterFacts, end: UnixNanos): void {
    const info = facts.gpus.get(gpu.gpu);
    const product = info?.name ?? "unknown";
    const price = inForce(this.#catalogue.gpus, end - 1n, (entry) => productRank(entry.gpu, product));
    if (price === undefined) {
      this.#miss(posted, product, "gpu_price");
      return;
    }
    const energy = price.energyIncluded ? undefined : inForce(this.#catalogue.energy, end - 1n, () => 0);
    if (!price.energyIncluded && energy === undefined) this.#miss(posted, product, "energy_price");
    for (const part of costParts(gpu, facts)) {
      const base = { ...hardware(info, product), ...part.holder, "tokenwatt.gpu.state": part.state };
      const board = { "hw.id": gpu.gpu };
      const key = `${gpu.gpu} ${part.holder["tokenwatt.server.id"] ?? ""} ${part.state}`;
      const rent = this.remainders.divide(
        `${key} ${price.version}`,
        BigInt(part.nanos) * price.perGpuHour,
        nanosPerHour,
      );
      this.#cost(posted, base, board, "gpu", price.version, rent);
      if (energy === undefined) continue;
      const power = this.remainders.divide(
        `${key} ${energy.version}`,
        BigInt(part.millijoules) * energy.perKilowattHour * energy.usageEffectivenessMilli,
        energyDivisor,
      );
      this.#cost(posted, base, board, "energy", energy.version, power);
    }
    const perJoule = energy === undefined ? 0n : energy.perKilowattHour * energy.usageEffectivenessMilli;
    for (const { holder, millijoules, nanos } of gpu.holders ?? []) {
      const key = `${gpu.gpu} holder ${holderKey(holder)} ${price.version} ${energy?.version ?? ""}`;
      const rent = this.remainders.divide(`${key} gpu`, BigInt(nanos) * price.perGpuHour, nanosPerHour);
      const power = this.remainders.divide(`${key} energy`, BigInt(millijoules) * perJoule, energyDivisor);
      const amount = rent + power;
      if (amount === 0n) continue;
      const dimensions = {
        ...this.holders.of(holder),
        ...hardware(info, product),
        "tokenwatt.currency": this.#catalogue.currency,
      };
      posted.push({ metric: "tokenwatt.holder.cost", dimensions, amount: Number(amount) });
    }
  }

  #cost(
    posted: Posting[],
    base: Dimensions,
    board: Dimensions,
    component: string,
    version: string,
    amount: bigint,
  ): void {
    if (amount === 0n) return;
    const dimensions = { ...base, "tokenwatt.cost.component": component, ...this.#priced(version) };
    const kept = { ...dimensions, ...board };
    posted.push({ metric: "tokenwatt.cost", dimensions, kept, amount: Number(amount) });
  }

  #priced(version: string): Dimensions {
    return { "tokenwatt.currency": this.#catalogue.currency, "tokenwatt.price.version": version };
  }

  /** Once per bucket and name: the miss is a fact about the catalogue, not about the number of ticks. */
  #miss(posted: Posting[], name: string, reason: string): void {
    const key = `${reason} ${name}`;
    if (this.#missed.has(key)) return;
    this.#missed.add(key);
    const dimensions = { "hw.model": name, "tokenwatt.reason": reason };
    posted.push({ metric: "tokenwatt.catalog_misses", dimensions, amount: 1 });
  }
}

interface CostPart {
  readonly holder: Dimensions;
  readonly state: string;
  readonly nanos: number;
  readonly millijoules: number;
}

/** Every second and joule of a GPU once: the allocated ones under their servers, the rest under none. */
function* costParts(gpu: GpuInterval, facts: MeterFacts): Generator<CostPart> {
  const shared = gpu.residents.reduce(
    (sum, { nanos }) => sum + allocatedStates.reduce((one, state) => one + nanos[state], 0),
    0,
  );
  const allocated = allocatedStates.reduce((sum, state) => sum + gpu.nanos[state], 0);
  const byServer = shared === allocated;
  for (const state of gpuStates) {
    if (byServer && (allocatedStates as readonly string[]).includes(state)) continue;
    yield { holder: {}, state, nanos: gpu.nanos[state], millijoules: gpu.millijoules[state] };
  }
  yield { holder: {}, state: "unattributed", nanos: 0, millijoules: gpu.millijoules.unattributed };
  if (!byServer) return;
  for (const resident of gpu.residents) {
    const model = facts.soleModel?.(resident.server);
    const holder = {
      "tokenwatt.server.id": resident.server,
      ...modelAttributes(model),
    };
    for (const state of allocatedStates) {
      yield { holder, state, nanos: resident.nanos[state], millijoules: resident.millijoules[state] };
    }
  }
}

function hardware(info: GpuInfo | undefined, product: string): Dimensions {
  return info === undefined ? {} : { "hw.model": product };
}
