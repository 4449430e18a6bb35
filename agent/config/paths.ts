// Places in the configuration: `servers.vllm[1].endpoint`, as messages show them and `--set` reads them.

/** Keys and list positions from the top down. */
export type ConfigPath = readonly (string | number)[];

const PLAIN_KEY = /^[A-Za-z_][\w-]*$/;
const STEP = /^(?:\.?([A-Za-z_][\w-]*)|\[(\d{1,4})\]|\[("(?:[^"\\]|\\.)*")\])/;

/** `servers.vllm[1].endpoint`; keys that are no plain words are quoted: `aliases["org/model"]`. */
export function formatPath(path: ConfigPath): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else if (PLAIN_KEY.test(step)) text += text === "" ? step : `.${step}`;
    else text += `[${JSON.stringify(step)}]`;
  }
  return text === "" ? "the configuration" : text;
}

/** The path written as `formatPath` writes it, or undefined when it cannot be read. */
export function parsePath(text: string): ConfigPath | undefined {
  const path: (string | number)[] = [];
  let rest = text;
  while (rest !== "") {
    const match = STEP.exec(rest);
    if (match === null) return undefined;
    const [whole, key, position, quoted] = match;
    // A dot stands before every key but the first.
    if (whole.startsWith(".") !== (key !== undefined && path.length > 0)) return undefined;
    if (key !== undefined) path.push(key);
    else if (position !== undefined) path.push(Number(position));
    else path.push(JSON.parse(quoted ?? '""') as string);
    rest = rest.slice(whole.length);
  }
  return path.length === 0 ? undefined : path;
}

/** The value at a path, or undefined where the path leads nowhere. */
export function valueAt(root: unknown, path: ConfigPath): unknown {
  let value = root;
  for (const step of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string | number, unknown>)[step];
  }
  return value;
}

/** A copy of `root` with the value at `path` replaced; sections and lists on the way are made where they are missing. */
export function withValue(root: unknown, path: ConfigPath, value: unknown): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return value;
  const inner = withValue(valueAt(root, [step]), rest, value);
  if (typeof step === "number") {
    const list = Array.isArray(root) ? [...(root as unknown[])] : [];
    list[step] = inner;
    return Array.from(list, (item) => item ?? {});
  }
  const section = typeof root === "object" && root !== null && !Array.isArray(root) ? root : {};
  return Object.assign(Object.create(null) as object, section, { [step]: inner });
}

/** Every value that is no section or list, with its path; empty sections and lists count as values. */
export function leaves(root: unknown, path: ConfigPath = []): [ConfigPath, unknown][] {
  if (typeof root !== "object" || root === null) return root === undefined ? [] : [[path, root]];
  const entries: [string | number, unknown][] = Array.isArray(root)
    ? [...(root as unknown[]).entries()]
    : Object.entries(root);
  if (entries.length === 0) return [[path, root]];
  return entries.flatMap(([step, value]) => leaves(value, [...path, step]));
}
