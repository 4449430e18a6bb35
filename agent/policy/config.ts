// The policy file as typed data: its schema, and what follows from a quota's words (which metric counts, in which unit).
// Amounts are integers in fine units, so that weights and prices are exact: a token, a request, a thousandth of a
// weighted token, 1e-15 of a currency. How files are read and problems are worded is config/policy.ts.
import { createHash } from "node:crypto";
import { z } from "zod";
import { isTimeZone } from "../meter/figures/calendar.ts";
import type { TokenKind } from "../model.ts";
import {
  addressText,
  isFault,
  isLoopbackHost,
  parseHostPort,
  parseUnixSocket,
  parseWebAddress,
} from "../platform/address.ts";
import { headerTexts } from "../platform/headers.ts";
import { callTls, listenTls } from "../platform/tls.ts";
import { limiterTypes } from "./limiters/registry.ts";
import { windowUnits } from "./windows.ts";

/** What a quota may count. */
const counts = ["tokens", "input", "output", "weighted", "requests", "cost"] as const;
/** One of them. */
export type Count = (typeof counts)[number];
/** The keys a quota may be matched by, and a counter is named by. */
export const matchKeys = ["tenant", "endpoint", "model"] as const;
/** One of them. */
export type MatchKey = (typeof matchKeys)[number];

const name = z
  .string()
  .regex(/^[a-z0-9-]{1,63}$/, { error: "a name of 1 to 63 lower-case letters, digits and hyphens" });
const pattern = z.string().min(1).max(256);
const currencies: ReadonlySet<string> = new Set(Intl.supportedValuesOf("currency"));

/** Only the keys that are there: one that is absent is no key that is undefined. */
function present(
  match: Readonly<Partial<Record<MatchKey, string | undefined>>>,
): Readonly<Partial<Record<MatchKey, string>>> {
  return Object.fromEntries(
    matchKeys.flatMap((key) => (match[key] === undefined ? [] : [[key, match[key]]])),
  );
}

const quota = z.strictObject({
  name,
  match: z
    .strictObject({ tenant: pattern, endpoint: pattern, model: pattern })
    .partial()
    .prefault({})
    .transform(present),
  source: z.enum(["gateway", "engine"]).default("gateway"),
  count: z.enum(counts),
  weights: z
    .partialRecord(
      z.enum(["input_uncached", "input_cached", "input_unsplit", "output"]),
      z.number().min(0).max(1000).multipleOf(0.001),
    )
    .optional()
    .describe("For `weighted`: what a token of each kind counts; kinds that are not named count 0."),
  currency: z
    .string()
    .refine((written) => currencies.has(written), {
      error: "a currency code of ISO 4217, such as USD or EUR",
    })
    .optional(),
  outcomes: z.enum(["billable", "all"]).default("billable"),
  limit: z.number().positive().max(Number.MAX_SAFE_INTEGER),
  per: z.enum(windowUnits),
  hostShare: z.number().gt(0).max(1).default(1),
  warnAt: z.array(z.number().gt(0).lt(1)).max(8).default([0.8, 0.95]),
  mode: z.enum(["mirror", "shadow", "local"]).default("mirror"),
  reserve: z
    .strictObject({
      tokens: z.number().int().positive(),
      seconds: z.number().positive().max(3600).default(60),
    })
    .optional(),
});

const names = z.array(z.string().min(1).max(128)).min(1).max(16);

const rls = z
  .strictObject({
    listen: addressText(
      (text) => parseUnixSocket(text) ?? parseHostPort(text, { anyPort: true, examplePort: 9467 }),
    ),
    tls: listenTls.optional(),
    domains: names.default(["tokenwatt"]),
    keys: z
      .strictObject({
        tenant: names.default(["tenant", "x-tenant-id"]),
        model: names.default(["model", "model_name_override"]),
        endpoint: names.default(["route"]),
      })
      .prefault({}),
    callsPerSecondMax: z.number().int().positive().max(100_000).default(5000),
  })
  .superRefine(({ listen, tls }, context) => {
    const place = parseHostPort(listen, { anyPort: true });
    if (tls !== undefined || isFault(place) || isLoopbackHost(place.host)) return;
    const message = "an address of this host, such as 127.0.0.1:9467, or the key tls";
    context.addIssue({ code: "custom", path: ["listen"], message });
  });

const orca = z.strictObject({
  listen: addressText(
    (text) => parseUnixSocket(text) ?? parseHostPort(text, { anyPort: true, examplePort: 9468 }),
  ),
  tls: listenTls.optional(),
  minimumSeconds: z.number().min(0.1).max(3600).default(1),
});

const fleet = z.strictObject({
  prometheus: addressText(parseWebAddress).describe("Where its API is, before `/api/v1/query`."),
  tls: callTls.optional(),
  bearerFile: z.string().min(1).optional(),
  headers: headerTexts.optional().describe("Such as X-Scope-OrgID, by which Mimir tells tenants apart."),
  seconds: z.number().min(10).max(180).default(60),
});

const limiters = z
  .array(
    z.strictObject({
      name,
      type: z.enum(limiterTypes.map((one) => one.name)),
      page: addressText(parseWebAddress).describe("Its metric page."),
      tls: callTls.optional(),
      bearerFile: z.string().min(1).optional(),
      headers: headerTexts.optional(),
      seconds: z.number().min(1).max(600).default(10),
    }),
  )
  .max(16)
  .default([])
  .superRefine((written, context) => {
    for (const [index, { name }] of written.entries()) {
      if (written.findIndex((one) => one.name === name) === index) continue;
      context.addIssue({ code: "custom", path: [index, "name"], message: "a name no other limiter has" });
    }
  });

/** A rate limiter whose page is read. */
export type LimiterConfig = z.output<typeof limiters>[number];

/** Where rate-limit calls are answered, and how their descriptors are read. */
export type RlsConfig = z.output<typeof rls>;

/** The schema of a policy file. */
export const policyFile = z.strictObject({
  version: z.string().min(1).max(128),
  timeZone: z
    .string()
    .refine(isTimeZone, { error: "a time zone of the IANA database, such as Europe/Berlin" })
    .default("UTC"),
  quotas: z.array(quota).max(200).default([]),
  keysMax: z.number().int().min(1).max(100_000).default(1000),
  rls: rls.optional(),
  orca: orca.optional(),
  fleet: fleet.optional(),
  observe: z.boolean().default(true),
  limiters,
});

/** One quota as written, defaults filled in. */
export type QuotaText = z.output<typeof quota>;
/** A policy file as written, defaults filled in. */
export type PolicyText = z.output<typeof policyFile>;

/** A quota with what follows from its words. */
export interface Quota extends QuotaText {
  /** Fine units in one unit of the limit. */
  readonly scale: number;
  /** This host's part of the limit, in fine units. */
  readonly hostLimit: bigint;
  /** All of the limit. */
  readonly fleetLimit: bigint;
  /** The keys whose every value has a counter of its own, in the order of `matchKeys`. */
  readonly wild: readonly MatchKey[];
  /** What the counter's value means: a change of it begins the count from the ledger. */
  readonly definition: string;
  readonly zone: string;
}

/** A policy in force. */
export interface Policy {
  readonly version: string;
  /** First 12 hex digits of the SHA-256 of the file's content. */
  readonly digest: string;
  readonly zone: string;
  readonly quotas: readonly Quota[];
  readonly keysMax: number;
  readonly rls: RlsConfig | undefined;
  /** Where load of this host's servers is reported. */
  readonly orca: z.output<typeof orca> | undefined;
  /** Who knows what all hosts used together. */
  readonly fleet: z.output<typeof fleet> | undefined;
  /** Gateways' own limits are shown beside ours. */
  readonly observe: boolean;
  /** Rate limiters whose pages are read. */
  readonly limiters: readonly LimiterConfig[];
}

/** Fine units in one unit of what is counted. */
const scales: Readonly<Record<Count, number>> = {
  tokens: 1,
  input: 1,
  output: 1,
  weighted: 1000,
  requests: 1,
  cost: 1e15,
};

/** The policy of a file's parsed text. */
export function policyOf(text: PolicyText, content: string): Policy {
  const { keysMax, timeZone: zone, version } = text;
  const digest = createHash("sha256").update(content).digest("hex").slice(0, 12);
  return {
    version,
    digest,
    zone,
    keysMax,
    rls: text.rls,
    orca: text.orca,
    fleet: text.fleet,
    observe: text.observe,
    limiters: text.limiters,
    quotas: text.quotas.map((one) => quotaOf(one, zone)),
  };
}

function quotaOf(one: QuotaText, zone: string): Quota {
  const scale = scales[one.count];
  const { count, currency, match, outcomes, per, source, weights } = one;
  return {
    ...one,
    warnAt: [...one.warnAt].sort((a, b) => a - b),
    scale,
    // Shares are rounded up: what one fine unit of a limit is worth must not refuse a host its only token.
    hostLimit: fineAmount(one.limit * one.hostShare, scale),
    fleetLimit: fineAmount(one.limit, scale),
    wild: matchKeys.filter((key) => match[key] === "*"),
    definition: JSON.stringify([count, currency ?? "", match, outcomes, per, zone, source, weights ?? {}]),
    zone,
  };
}

/** An amount in fine units. Money has nine decimals that matter; below them a double says nothing. */
export function fineAmount(amount: number, scale: number): bigint {
  if (scale <= 1000) return BigInt(Math.ceil(amount * scale - 1e-9));
  return BigInt(Math.round(amount * 1e9)) * BigInt(scale / 1e9);
}

/** What one token of a kind counts in fine units, for counts of tokens. */
export function tokenFactor(quota: Quota, kind: TokenKind): number {
  if (quota.count === "tokens") return 1;
  if (quota.count === "output") return kind === "output" ? 1 : 0;
  if (quota.count === "input") return kind === "output" ? 0 : 1;
  return quota.count === "weighted" ? Math.round((quota.weights?.[kind] ?? 0) * 1000) : 0;
}

/** The unit word that ends the names of a quota's metrics: `charged_tokens`, `used_cost`. */
export function unitWord(count: Count): "tokens" | "requests" | "cost" {
  if (count === "requests" || count === "cost") return count;
  return "tokens";
}
