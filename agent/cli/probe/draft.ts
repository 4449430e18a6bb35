// The skeleton of a server file for a page that no type knows: what the page's names suggest, with the questions only its
// source can answer. It compiles and reads the page as the suggested mapping would.
import type { Mapping } from "../../servers/page/token-families.ts";

type Selector = { readonly metric: string; readonly where?: Readonly<Record<string, string>> };

/** The text of `agent/servers/<name>.ts`; the name is what the page's families begin with. */
export function draftOf(mapping: Mapping): string {
  const of = (key: string): readonly Selector[] => selectorsAt(mapping["tokens"], key);
  const [input, cached, output, reasoning] = [of("input"), of("cached"), of("output"), of("reasoning")];
  const [running, waiting] = [selectorsAt(mapping, "running"), selectorsAt(mapping, "waiting")];
  const all = [...input, ...cached, ...output, ...reasoning, ...running, ...waiting];
  const families = [...new Set(all.map(({ metric }) => metric.replace(/_sum$/, "")))];
  const name = nameOf(families);
  const known = (output[0] ?? input[0])?.metric ?? families[0] ?? "its_tokens_total";
  const labels = ["modelLabel", "tenantLabel"].flatMap((key) =>
    mapping[key] === undefined ? [] : [`${key}: ${JSON.stringify(mapping[key])}`],
  );
  return `// ${name}'s metric page (name the source of these names: file and version). Say here when the counters move, whether input
// includes cache hits, what is counted twice and left out, and which label or family no other server has.
import { textServer } from "./page/server.ts";

/** ${name}. */
export const ${camelCased(name)} = textServer({
  name: "${name}",
  family: "${String(mapping["family"])}",
  port: 8000,
  path: "/metrics",
  // "step" where counters move while a request runs, "finish" where they move at its end.
  volume: "finish",
  labels: {${labels.length === 0 ? "" : ` ${labels.join(", ")} `}},
  families: ${JSON.stringify(families)},
  recognises: (page) => (page.samples.has("${known}") ? "${known}" : undefined),
  read: (readings) => {
${[
  ...inputLines(input, cached),
  ...output.map((each) => tokenLine("output", each)),
  ...reasoning.map(reasoningLine),
]
  .concat(running.map(({ metric }) => `readings.inFlight("running", "${metric}");`))
  .concat(waiting.map(({ metric }) => `readings.inFlight("waiting", "${metric}");`))
  .concat(`readings.epoch("${known}");`)
  .map((line) => `    ${line}`)
  .join("\n")}
  },
});
`;
}

/** The word all families begin with, else a name to be replaced. */
function nameOf(families: readonly string[]): string {
  const words = new Set(families.map((family) => /^[a-z][a-z0-9]*(?=[_:])/i.exec(family)?.[0].toLowerCase()));
  const [word] = words;
  return words.size === 1 && word !== undefined ? word : "my-server";
}

function selectorsAt(from: unknown, key: string): readonly Selector[] {
  return ((from as Record<string, readonly Selector[]> | undefined)?.[key] ?? []) as readonly Selector[];
}

/** Input that includes cache hits, split where the page counts those. */
function inputLines(input: readonly Selector[], cached: readonly Selector[]): string[] {
  const [hits] = cached;
  const lines = hits === undefined ? [] : [`const hits = readings.parts("${hits.metric}"${picked(hits)});`];
  const split =
    hits === undefined ? "() => undefined" : "(part) => (hits.size > 0 ? (hits.get(part) ?? 0) : undefined)";
  return [...lines, ...input.map((each) => `readings.input("${each.metric}", ${split}${picked(each)});`)];
}

/** The labels left out of a part, and which samples count, as further arguments; none where all count. */
function picked(each: Selector): string {
  return each.where === undefined ? "" : `, ${JSON.stringify(Object.keys(each.where))}, ${test(each)}`;
}

function tokenLine(kind: string, each: Selector): string {
  if (each.where === undefined) return `readings.tokens("${kind}", "${each.metric}");`;
  const without = JSON.stringify(Object.keys(each.where));
  return `${eachSample(each)} readings.of(labels, "summed", ${without}).tokens("${kind}", value);`;
}

function reasoningLine(each: Selector): string {
  return `${eachSample(each)} readings.of(labels).reasoning(value);`;
}

function eachSample(each: Selector): string {
  const loop = `for (const { labels, value } of readings.counters("${each.metric}"))`;
  return each.where === undefined ? loop : `${loop} if ((${test(each)})(labels))`;
}

/** Which labels count, as code. */
function test({ where }: Selector): string {
  const wanted = Object.entries(where ?? {});
  return `(labels: Readonly<Record<string, string>>) => ${wanted.map(([name, value]) => `labels[${JSON.stringify(name)}] === ${JSON.stringify(value)}`).join(" && ")}`;
}

function camelCased(name: string): string {
  return name.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
