// Increments that wait, as the text of one row: written at every beat, a thousand of them on a busy host. Increments of one
// poll share what they have in common, histograms their bounds, and amounts are known by their place.
import type { TokenIncrement } from "../../model.ts";
import { outcomes, tokenKinds } from "./key-counters.ts";
import type { KnownBounds, PackedLatencies } from "./packed-latencies.ts";
import { packedLatencies, unpackedLatencies } from "./packed-latencies.ts";

/** What a row is that says increments in this form; the first one was a list of increments as they are. */
const FORM = 3;
/** Said the same, but kept what was booked of servers with data-parallel ranks. */
const FORM_BEFORE = 2;

/** Increments alike in everything but these. */
interface Group {
  readonly of: Partial<TokenIncrement>;
  readonly each: readonly Packed[];
}

/** One of them; 0 stands for an absent name and for no amount. */
type Packed = readonly [
  model: string | 0,
  tenant: string | 0,
  endpoint: string | 0,
  tokens: readonly number[],
  requests: readonly number[],
  reasoningTokens: number,
  latencies: 0 | PackedLatencies,
  more?: Partial<TokenIncrement>,
];

interface Row {
  readonly form: typeof FORM | typeof FORM_BEFORE;
  readonly bounds: readonly (readonly number[])[];
  readonly groups: readonly Group[];
}

/** The increments of all lists as text. */
export function pendingText(lists: readonly (readonly TokenIncrement[])[]): string {
  const bounds: KnownBounds = new Map();
  // Each increment a text at once, and all of them one: what a thousand of them are made of would outlive the beat.
  const parts = [`{"form":${FORM},"groups":[`];
  let last: TokenIncrement | undefined;
  for (const increments of lists)
    for (let place = 0; place < increments.length; place++) {
      const one = increments[place] as TokenIncrement;
      if (last !== undefined && isAlike(last, one)) parts.push(",");
      else parts.push(last === undefined ? "" : "]},", `{"of":${JSON.stringify(commonOf(one))},"each":[`);
      parts.push(JSON.stringify(packed(one, bounds)));
      last = one;
    }
  parts.push(last === undefined ? "" : "]}", `],"bounds":${JSON.stringify([...bounds.keys()])}}`);
  return parts.join("");
}

/** The increments in a text of this form or of those before it; undefined where it is of neither. */
export function pendingIncrements(text: string): readonly TokenIncrement[] | undefined {
  const row = JSON.parse(text) as Row | readonly TokenIncrement[];
  if (Array.isArray(row)) return withoutBooked(row as readonly TokenIncrement[]);
  const { bounds, form, groups } = row as Row;
  if (form !== FORM && form !== FORM_BEFORE) return undefined;
  const increments = groups.flatMap(({ each, of }) => each.map((one) => unpacked(of, one, bounds)));
  return form === FORM ? increments : withoutBooked(increments);
}

/** Those that surely wait: of a server with ranks, whose booked ones were kept as well, what its last poll moved. */
function withoutBooked(increments: readonly TokenIncrement[]): readonly TokenIncrement[] {
  const last = new Map<string, number>();
  for (const { at, ranks, server } of increments)
    if (ranks !== undefined) last.set(server, Math.max(at, last.get(server) ?? at));
  return increments.filter(({ at, server }) => at >= (last.get(server) ?? at));
}

function isAlike(one: TokenIncrement, other: TokenIncrement): boolean {
  return (
    one.at === other.at &&
    one.server === other.server &&
    one.family === other.family &&
    one.role === other.role &&
    one.late === other.late &&
    one.doubt === other.doubt &&
    one.elsewhere === other.elsewhere
  );
}

function commonOf({ at, doubt, elsewhere, family, late, role, server }: TokenIncrement) {
  const common = { server, family, role, at, late };
  return {
    ...common,
    ...(doubt === undefined ? {} : { doubt }),
    ...(elsewhere === undefined ? {} : { elsewhere }),
  };
}

function packed(one: TokenIncrement, bounds: KnownBounds): Packed {
  const { endpoint, latencies, model, onGpus, ranks, reasoningTokens, resets } = one;
  const { tenant, tokensByOutcome } = one;
  const start = [
    model ?? 0,
    tenant ?? 0,
    endpoint ?? 0,
    tokenKinds.map(amountIn, one.tokens),
    outcomes.map(amountIn, one.requests),
    reasoningTokens,
    packedLatencies(latencies, bounds) ?? 0,
  ] as const;
  if (resets === 0 && tokensByOutcome === undefined && ranks === undefined && onGpus === undefined)
    return start;
  return [
    ...start,
    {
      resets,
      ...(tokensByOutcome === undefined ? {} : { tokensByOutcome }),
      ...(ranks === undefined ? {} : { ranks }),
      ...(onGpus === undefined ? {} : { onGpus }),
    },
  ];
}

/** What its amounts have of a name. */
function amountIn(this: Readonly<Record<string, number>>, name: string): number {
  return this[name] ?? 0;
}

function unpacked(of: Group["of"], one: Packed, bounds: Row["bounds"]): TokenIncrement {
  const [model, tenant, endpoint, tokens, requests, reasoningTokens, latencies, more] = one;
  return {
    ...(of as TokenIncrement),
    ...(model === 0 ? {} : { model }),
    ...(tenant === 0 ? {} : { tenant }),
    ...(endpoint === 0 ? {} : { endpoint }),
    tokens: named(tokenKinds, tokens),
    reasoningTokens,
    requests: named(outcomes, requests),
    latencies: latencies === 0 ? {} : unpackedLatencies(latencies, bounds),
    resets: 0,
    ...more,
  };
}

/** Amounts by name; those of nothing have none. */
function named<Name extends string>(
  names: readonly Name[],
  amounts: readonly number[],
): Partial<Record<Name, number>> {
  const found: Partial<Record<Name, number>> = {};
  for (const [place, name] of names.entries()) {
    const amount = amounts[place] ?? 0;
    if (amount !== 0) found[name] = amount;
  }
  return found;
}
