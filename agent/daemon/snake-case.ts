// Names of the code (camelCase) as names of JSON that people and other programs read (snake_case).

/**
 * The same value with the keys of its objects in snake_case. Where keys are data (ids, ports, codes) they stay as they
 * are: `keyedByData` names the paths of those objects, such as `host.ports`, `gpus[].errors` or, below a key that is data,
 * `ports.*.codes`.
 */
export function snakeCased(value: unknown, keyedByData: ReadonlySet<string>, path = ""): unknown {
  if (Array.isArray(value)) return value.map((one) => snakeCased(one, keyedByData, `${path}[]`));
  if (typeof value !== "object" || value === null) return value;
  const isData = keyedByData.has(path);
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      const name = isData ? key : snakeCase(key);
      const step = isData ? "*" : name;
      return [name, snakeCased(inner, keyedByData, path === "" ? step : `${path}.${step}`)];
    }),
  );
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
