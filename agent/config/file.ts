// The configuration file: YAML 1.2 with a line number for every key, and the one door to the yaml package.
// Duplicate keys, tabs and bad nesting are refused with line and column; the source text itself is never quoted,
// because it may hold credentials.
import { readFileSync, statSync } from "node:fs";
import type { Document, Node, Pair, Scalar } from "yaml";
import { isMap, isScalar, isSeq, LineCounter, parse, parseDocument, stringify, visit } from "yaml";
import type { ConfigPath } from "./paths.ts";
import type { Problem } from "./problems.ts";

const FILE_BYTES_MAX = 1024 * 1024;

/** A configuration file as read; `value` is `{}` for an empty file. */
export interface ConfigFile {
  readonly name: string;
  readonly value: unknown;
  readonly problems: readonly Problem[];
  /** `config.yaml:12:5` of the key at a path, or of the nearest section above it. */
  locate(path: ConfigPath): string;
  /** Whether the file itself names this path. */
  has(path: ConfigPath): boolean;
}

/** Reads a configuration file. What is wrong with it is in `problems`; never throws. */
export function readConfigFile(name: string): ConfigFile {
  let text: string;
  try {
    const size = statSync(name).size;
    if (size > FILE_BYTES_MAX) return unreadable(name, `it has ${size} bytes, more than ${FILE_BYTES_MAX}`);
    text = readFileSync(name, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    const reason = REASONS[code] ?? (error as Error).message;
    return unreadable(
      name,
      reason,
      code === "ENOENT" ? "`tokenwatt config init` prints one to start from" : undefined,
    );
  }
  return parseConfigText(name, text);
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "this user may not read it",
  EISDIR: "it is a folder",
};

function unreadable(name: string, reason: string, hint?: string): ConfigFile {
  const problem: Problem = { path: "", message: `Cannot read configuration file ${name}: ${reason}`, hint };
  return { name, value: {}, problems: [problem], locate: () => name, has: () => false };
}

/** Reads the text of a configuration file; `name` is what messages call it. */
export function parseConfigText(name: string, text: string): ConfigFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, version: "1.2" });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  const problems: Problem[] = document.errors.map((error) => ({
    path: "",
    message: `Cannot read YAML: ${lowerFirst(error.message)}`,
    at: at(error.pos[0]),
    hint: YAML_HINTS[error.code],
  }));
  let value: unknown = {};
  if (problems.length === 0) {
    try {
      value = document.toJS({ maxAliasCount: 100 }) ?? {};
    } catch (error) {
      problems.push({
        path: "",
        message: `Cannot read YAML: ${lowerFirst((error as Error).message)}`,
        at: name,
      });
    }
  }
  const locate = (path: ConfigPath): string => {
    const { offset } = find(document, path);
    return offset === undefined ? name : at(offset);
  };
  return { name, value, problems, locate, has: (path) => find(document, path).depth === path.length };
}

const YAML_HINTS: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: "each key may stand once in its section; merge the two",
  TAB_AS_INDENT: "indent with spaces",
  BAD_INDENT: "keys of one section stand in the same column",
  MULTILINE_IMPLICIT_KEY: "is a colon or a quote missing on this line?",
  MULTIPLE_DOCS: "keep one document: remove the line `---`",
};

function find(document: Document, path: ConfigPath): { offset: number | undefined; depth: number } {
  let node: unknown = document.contents;
  let offset: number | undefined;
  let depth = 0;
  for (const step of path) {
    if (isMap(node)) {
      const pair: Pair | undefined = node.items.find(
        (item) => isScalar(item.key) && String(item.key.value) === step,
      );
      if (pair === undefined) break;
      offset = (pair.key as Node).range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node) && typeof step === "number" && step < node.items.length) {
      node = node.items[step];
      offset = (node as Node | null)?.range?.[0] ?? offset;
    } else break;
    depth++;
  }
  return { offset, depth };
}

/** A value written on one line in YAML (`3`, `true`, `[a, b]`), as environment variables and `--set` carry it. Throws. */
export function parseYamlValue(text: string): unknown {
  return parse(text, { prettyErrors: false, version: "1.2" });
}

/** YAML text of a value, with a comment behind each value that `commentOf` has one for. */
export function formatYaml(value: unknown, commentOf?: (path: ConfigPath) => string | undefined): string {
  if (commentOf === undefined) return stringify(value, { lineWidth: 0 });
  const document = parseDocument(stringify(value, { lineWidth: 0 }));
  visit(document, {
    Scalar: (key, node, ancestors) => {
      if (key === "key") return;
      const comment = commentOf(pathOf(key, node, ancestors as readonly Node[]));
      if (comment !== undefined) node.comment = ` ${comment}`;
    },
  });
  return document.toString({ lineWidth: 0 });
}

function pathOf(key: unknown, node: Node, ancestors: readonly (Node | Document | Pair)[]): ConfigPath {
  const path: (string | number)[] = [];
  const chain = [...ancestors, node];
  chain.forEach((step, index) => {
    const next = chain[index + 1];
    if (isSeq(step)) path.push(next === node && typeof key === "number" ? key : step.items.indexOf(next));
    if (isMap(step)) path.push(String((next as Pair<Scalar>).key.value));
  });
  return path;
}

function lowerFirst(text: string): string {
  const trimmed = text.trim().replace(/\.$/, "");
  return trimmed.charAt(0).toLowerCase() + trimmed.slice(1);
}
