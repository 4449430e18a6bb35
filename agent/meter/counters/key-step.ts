// What one reading of one label set led to: thousands are made at every poll of a gateway, most of them the same nothing.
import type { TokenIncrement, TokenSample } from "../../model.ts";
import type { KeyIdentity } from "./key-state.ts";

/** The same while it is being filled in. */
export type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** What the counters of one label set moved. */
export type Movements = Pick<
  TokenIncrement,
  "tokens" | "tokensByOutcome" | "reasoningTokens" | "requests" | "latencies"
>;

/** What one reading of one label set added. */
export interface KeyStep {
  /** Absent when nothing moved; as if it was not late, which only the sample can say. */
  readonly moved: Mutable<TokenIncrement> | undefined;
  readonly progressInput: number;
  readonly progressOutput: number;
  readonly reset: boolean;
  readonly dropped: number;
  /** A counter stands lower than it stood, and is held where it was. */
  readonly fell: boolean;
}

/** Nothing moved and nothing was refused. */
export const still: KeyStep = {
  moved: undefined,
  progressInput: 0,
  progressOutput: 0,
  reset: false,
  dropped: 0,
  fell: false,
};

/** Requests that ended well: what nearly every increment has. Each number once, for they wait with it until it is booked. */
const served: TokenIncrement["requests"][] = [{}];
const servedMax = 2048;

/** Requests that ended well, and nothing else. */
export function requestsServed(ok: number): TokenIncrement["requests"] {
  if (!(ok < servedMax)) return { ok };
  while (served.length <= ok) served.push({ ok: served.length });
  return served[ok] as TokenIncrement["requests"];
}

/** What was moved as an increment, as if it was not late. Filled in, not put together of pieces: it lives for seconds. */
export function incrementOf(
  { endpoint, model, role, tenant }: KeyIdentity,
  { latencies, reasoningTokens, requests, tokens, tokensByOutcome }: Movements,
  isReset: boolean,
  { at, family, server }: Pick<TokenSample, "server" | "family" | "at">,
): Mutable<TokenIncrement> {
  const moved: Mutable<TokenIncrement> = {
    server,
    family,
    role,
    tokens,
    reasoningTokens,
    requests,
    latencies,
    resets: isReset ? 1 : 0,
    late: false,
    at,
  };
  if (model !== undefined) moved.model = model;
  if (tenant !== undefined) moved.tenant = tenant;
  if (endpoint !== undefined) moved.endpoint = endpoint;
  if (tokensByOutcome !== undefined) moved.tokensByOutcome = tokensByOutcome;
  return moved;
}
