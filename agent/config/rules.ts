// Rules across sections, which no single schema can check: one id per server, no option for a backend not chosen.
import { serverName } from "../platform/address.ts";
import type { ConfigPath } from "./paths.ts";
import { formatPath, valueAt } from "./paths.ts";
import type { Problem } from "./problems.ts";
import type { Sources } from "./schema.ts";

type Locate = (path: ConfigPath) => string | undefined;

/** Problems between sections. Looks at what was written too, so that it works on a configuration with other problems. */
export function crossProblems(
  config: unknown,
  written: unknown,
  sources: Sources,
  locate: Locate,
): Problem[] {
  return [...duplicateIds(config, sources, locate), ...unusedBackends(written, sources, locate)];
}

function duplicateIds(config: unknown, sources: Sources, locate: Locate): Problem[] {
  const firsts = new Map<string, ConfigPath>();
  const problems: Problem[] = [];
  for (const { name } of sources.serverTypes) {
    const entries = valueAt(config, ["servers", name]);
    for (const [index, entry] of Array.isArray(entries) ? entries.entries() : []) {
      const path = ["servers", name, index, "id"];
      const id = idOf(name, entry);
      if (id === undefined) continue;
      const first = firsts.get(id);
      if (first === undefined) {
        firsts.set(id, path);
        continue;
      }
      problems.push({
        path: formatPath(path),
        message: `Cannot use ${formatPath(path)}: ${JSON.stringify(id)} is already the id of ${formatPath(first.slice(0, -1))}`,
        at: locate(path),
        hint: "ids name servers in every metric and are unique over all types; give one of them another id",
      });
    }
  }
  return problems;
}

/** The id an entry gets: its own, or the one servers/ gives where there is none. */
function idOf(type: string, entry: unknown): string | undefined {
  const [id, endpoint] = [valueAt(entry, ["id"]), valueAt(entry, ["endpoint"])];
  if (typeof id === "string") return id;
  return typeof endpoint === "string" ? serverName(type, endpoint) : undefined;
}

function unusedBackends(written: unknown, sources: Sources, locate: Locate): Problem[] {
  const chosen = valueAt(written, ["gpu", "backend"]);
  if (!sources.gpuBackends.some(({ name }) => name === chosen)) return [];
  return sources.gpuBackends.flatMap(({ name }) => {
    const section = valueAt(written, ["gpu", name]);
    if (name === chosen || typeof section !== "object" || section === null) return [];
    if (Object.keys(section).length === 0) return [];
    const path = ["gpu", name];
    return [
      {
        path: formatPath(path),
        message: `Cannot honour ${formatPath(path)}: gpu.backend is ${JSON.stringify(chosen)}`,
        at: locate(path),
        hint: `remove ${formatPath(path)}, or set gpu.backend to "${name}" or "auto"`,
      },
    ];
  });
}
