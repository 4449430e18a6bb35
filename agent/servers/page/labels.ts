// Labels of a metric page: whom a series belongs to, and which part of a sum it is.
// The parser keeps the label objects of series that stay, so what was worked out for one is remembered with it.

import type { Role } from "../../model.ts";

/** Label set of a series. */
export type Labels = Readonly<Record<string, string>>;

/** What the configuration says about the labels of a page. */
export interface ReaderOptions {
  /** The label that names the model, or several of which the first with a value counts; so for the others. */
  readonly modelLabel?: string | readonly string[] | undefined;
  readonly tenantLabel?: string | readonly string[] | undefined;
  readonly endpointLabel?: string | readonly string[] | undefined;
  /** The label that says which upstream answered, and the upstreams that count; absent = everything counts. */
  readonly upstreamLabel?: string | undefined;
  readonly upstreams?: readonly string[] | undefined;
  readonly modelAliases?: Readonly<Record<string, string>> | undefined;
  readonly role?: Role | undefined;
}

/** Whom a series belongs to; `key` is the same for all series of one reading. */
export interface Identity {
  readonly key: string;
  readonly model: string | undefined;
  readonly tenant: string | undefined;
  readonly endpoint: string | undefined;
}

const identities = new WeakMap<ReaderOptions, WeakMap<Labels, Identity>>();

/** The identity of label sets under `options`. */
export function identifier(options: ReaderOptions): (labels: Labels) => Identity {
  const known = identities.get(options) ?? new WeakMap<Labels, Identity>();
  identities.set(options, known);
  return (labels) => {
    const found = known.get(labels);
    if (found !== undefined) return found;
    const made = identify(labels, options);
    known.set(labels, made);
    return made;
  };
}

function identify(labels: Labels, options: ReaderOptions): Identity {
  const named = label(labels, options.modelLabel);
  const model = named === undefined ? undefined : (options.modelAliases?.[named] ?? named);
  const tenant = label(labels, options.tenantLabel);
  const endpoint = label(labels, options.endpointLabel);
  return { key: JSON.stringify([model ?? null, tenant ?? null, endpoint ?? null]), model, tenant, endpoint };
}

/**
 * Values that mean "not set": an absent label, SGLang's empty one, LiteLLM's, Higress's and AI Gateway's words for it, and
 * what TensorRT-LLM wrote as every model's name (https://github.com/NVIDIA/TensorRT-LLM/pull/12545).
 */
const UNSET: ReadonlySet<string | undefined> = new Set([
  undefined,
  "",
  "None",
  "none",
  "unknown",
  "undefined",
]);

function label(labels: Labels, names: string | readonly string[] | undefined): string | undefined {
  if (names === undefined) return undefined;
  if (typeof names === "string") return UNSET.has(labels[names]) ? undefined : labels[names];
  const name = names.find((each) => !UNSET.has(labels[each]));
  return name === undefined ? undefined : labels[name];
}

const parts = new Map<string, WeakMap<Labels, string>>();

/** A part of a sum: the label set without some labels, as a key. */
export function partOf(labels: Labels, without: readonly string[] = []): string {
  const named = without.length === 0 ? "" : without.join();
  let known = parts.get(named);
  if (known === undefined) {
    known = new WeakMap();
    parts.set(named, known);
  }
  let part = known.get(labels);
  if (part === undefined) {
    const names = Object.keys(labels).sort();
    // Joined, not added up: a text added up piece by piece stays in memory as its pieces.
    part = names
      .filter((name) => !without.includes(name))
      .map((name) => `${name}\u0000${labels[name]}`)
      .join("\u0000");
    known.set(labels, part);
  }
  return part;
}

/** The label set without some labels. */
export function withoutLabels(labels: Labels, without: readonly string[]): Labels {
  if (without.length === 0) return labels;
  return Object.fromEntries(Object.entries(labels).filter(([name]) => !without.includes(name)));
}

const START = "start:";

/** The epoch of a run that began at a unix time in seconds. */
export function startEpoch(unixSeconds: number): string {
  return `${START}${unixSeconds}`;
}
