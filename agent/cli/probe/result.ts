// What a probe found, in the words of `--json` (METERING.md 9): null where the server does not say.
import type { RankReading, TokenReading } from "../../model.ts";
import type { Mapping, TokenFamily } from "../../servers/page/token-families.ts";

/** What a probe found, as `--json` prints it. */
export interface ProbeResult {
  readonly server: string | null;
  readonly why: string;
  readonly readings: readonly Readonly<Record<string, unknown>>[];
  readonly ignored_samples: number;
  readonly errors: readonly string[];
  /** Of a page no type knows: families that look like tokens, and a mapping to start from. */
  readonly token_families?: readonly TokenFamily[];
  readonly mapping?: Mapping;
}

/** One reading as `--json` prints it, with the label sets it was summed of. */
export function readingJson(
  reading: TokenReading,
  summed: readonly Readonly<Record<string, string>>[],
): Readonly<Record<string, unknown>> {
  const { tokens, requests } = reading;
  return {
    model: reading.model ?? null,
    tenant: reading.tenant ?? null,
    endpoint: reading.endpoint ?? null,
    role: reading.role,
    summed,
    input_uncached: tokens.input_uncached ?? null,
    input_cached: tokens.input_cached ?? null,
    input_unsplit: tokens.input_unsplit ?? null,
    output: tokens.output ?? null,
    reasoning: reading.reasoningTokens ?? null,
    requests: {
      ok: requests.ok ?? null,
      error: requests.error ?? null,
      aborted: requests.aborted ?? null,
      rejected: requests.rejected ?? null,
    },
    running: reading.running ?? null,
    waiting: reading.waiting ?? null,
    kv_cache_utilization: reading.kvCacheUtilization ?? null,
    volume: reading.volume,
    epoch: reading.epoch ?? null,
    ...(reading.ranks === undefined ? {} : { ranks: reading.ranks.map(rankJson) }),
  };
}

/** A data-parallel rank as it is printed: its part of the reading. */
function rankJson({
  progress,
  rank,
  running,
  tokens,
  waiting,
}: RankReading): Readonly<Record<string, unknown>> {
  return {
    rank,
    ...tokens,
    ...(progress === undefined ? {} : { progress }),
    running: running ?? null,
    waiting: waiting ?? null,
  };
}
