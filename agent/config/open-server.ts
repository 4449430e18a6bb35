// Opens a server under the model names of the whole configuration: `aliases` holds for every server, found or configured,
// and an entry's own `modelAliases` go before them (METERING.md 3: gen_ai.request.model is the served model).
import { z } from "zod";
import type { ServerSource, ServerType, SourceContext } from "../source.ts";

/** The source of an entry. Throws SourceError where it cannot be opened. */
export function openServer(type: ServerType, entry: unknown, context: SourceContext): ServerSource {
  return type.open(withAliases(type, entry, context.aliases ?? {}), context);
}

/** A name an entry maps to may be an alias itself; types that read no model names are left as they are. */
function withAliases(type: ServerType, entry: unknown, aliases: Readonly<Record<string, string>>): unknown {
  const isNamed = type.config instanceof z.ZodObject && "modelAliases" in type.config.shape;
  if (!isNamed || Object.keys(aliases).length === 0) return entry;
  const { modelAliases = {}, ...rest } = entry as { readonly modelAliases?: Record<string, string> };
  const own = Object.entries(modelAliases).map(([name, model]) => [name, served(model, aliases)]);
  return { ...rest, modelAliases: { ...aliases, ...Object.fromEntries(own) } };
}

function served(model: string, aliases: Readonly<Record<string, string>>): string {
  return Object.hasOwn(aliases, model) ? (aliases[model] as string) : model;
}

/** The other host an entry is left to by its `owner`; undefined where this host, by any of its names, reads it. */
export function ownerElsewhere(entry: unknown, hostNames: readonly string[]): string | undefined {
  const { owner } = entry as { readonly owner?: string };
  return owner === undefined || hostNames.includes(owner) ? undefined : owner;
}
