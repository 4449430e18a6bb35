// Quotas as the ledger has them: the agent's own stored counters where its last beat stored them, else the sums of the
// window's rows. Read beside the running agent; nothing is changed.
import type { Config } from "../../config/load.ts";
import { configuredFamilies } from "../../config/quota-feeds.ts";
import type { Dimensions } from "../../model.ts";
import { BUCKET_NANOS } from "../../model.ts";
import { PolicyBook, quotaBeatKey } from "../../policy/book.ts";
import type { MatchKey, Policy } from "../../policy/config.ts";
import { matchKeys } from "../../policy/config.ts";
import type { LimitCompared } from "../../policy/gateway-limits.ts";
import { gatewayLimitsKey } from "../../policy/gateway-limits.ts";
import type { LimiterShown } from "../../policy/limiters/shown.ts";
import { limitersKey } from "../../policy/limiters/shown.ts";
import type { QuotaReading } from "../../policy/states.ts";
import type { QuotaUsage } from "../../policy/usage.ts";
import { countedMetrics } from "../../policy/usage.ts";
import { LedgerReader } from "../../store/ledger/reader.ts";
import { runAtOnce } from "../../store/ledger/steps.ts";
import type { Io } from "../common/io.ts";
import { ledgerFile } from "../report.ts";
import { unknownValue } from "./choice.ts";

const MILLIS = 1_000_000n;

/** A series that was used in a window, and how much. */
export type UsedRow = readonly [metric: string, dimensions: Dimensions, amount: bigint];

/** The quotas of one ledger at its last beat. */
export class LedgerView {
  /** The end of the last stored interval. */
  readonly atMillis: number;
  readonly readings: readonly QuotaReading[];
  readonly usages: readonly QuotaUsage[];
  /** What gateways said they enforce by themselves. */
  readonly limits: readonly LimitCompared[];
  /** What rate limiters decided. */
  readonly limiters: readonly LimiterShown[];
  readonly #reader: LedgerReader;

  private constructor(policy: Policy, config: Config, reader: LedgerReader) {
    this.#reader = reader;
    this.atMillis = Number((reader.time ?? 0n) / MILLIS);
    const [beat] = reader.state(quotaBeatKey);
    const rows = beat?.value === String(reader.sequence) ? reader.state('["quota",') : [];
    const book = new PolicyBook(policy, this.atMillis, rows);
    for (const seed of book.seeds()) {
      const { heldSince, rows: sums } = runAtOnce(
        reader.sumsSince([...countedMetrics], bucketAt(seed.fromMillis)),
      );
      book.seed(seed, sums, heldSince !== undefined && heldSince <= seed.fromMillis);
    }
    const families = configuredFamilies(config);
    this.readings = book.commit(this.atMillis, (source) => ({
      isFed: families.has(source),
      failingSince: undefined,
    })).readings;
    this.usages = book.usages;
    const [limits] = reader.state(gatewayLimitsKey);
    this.limits = JSON.parse(limits?.value || "[]") as readonly LimitCompared[];
    const [limiters] = reader.state(limitersKey);
    this.limiters = JSON.parse(limiters?.value || "[]") as readonly LimiterShown[];
  }

  /** Opens the ledger that the options name. Throws `NoLedger` where there is none. */
  static async open(
    policy: Policy,
    config: Config,
    options: Parameters<typeof ledgerFile>[0],
    io: Io,
  ): Promise<LedgerView> {
    return new LedgerView(policy, config, new LedgerReader(await ledgerFile(options, io)));
  }

  /** The rows a window's usage is the sum of; a window of a minute has none of its own. */
  rowsSince(fromMillis: number): readonly UsedRow[] {
    return runAtOnce(this.#reader.sumsSince([...countedMetrics], bucketAt(fromMillis))).rows;
  }

  /** What to say of names of a caller that no usage in the ledger has. */
  unknownValues(caller: Readonly<Partial<Record<MatchKey, string | undefined>>>): readonly string[] {
    return matchKeys.flatMap((key) => {
      const given = caller[key];
      return given === undefined ? [] : (unknownValue(this.#reader, key, given) ?? []);
    });
  }

  close(): void {
    this.#reader.close();
  }
}

function bucketAt(millis: number): number {
  return Number((BigInt(millis) * MILLIS) / BUCKET_NANOS);
}
