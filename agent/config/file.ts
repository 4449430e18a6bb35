// The configuration file: YAML 1.2 with a line number for every key, and the one door to the yaml package.
// Duplicate keys, tabs, bad nesting, unknown tags, and aliases that lead round or swell are refused with line and
// column; the source text itself is never quoted, because it may hold credentials.
import type { Alias, Document, Node, Pair, Scalar } from "yaml";
import {
  isAlias,
  isCollection,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  stringify,
  visit,
} from "yaml";
import type { FileError } from "../platform/files.ts";
import { readTextOf } from "../platform/files.ts";
import type { ConfigPath } from "./paths.ts";
import type { Problem } from "./problems.ts";
import { shortened } from "./problems.ts";

/** A YAML file as read; `value` is `{}` for an empty file. */
export interface ConfigFile {
  readonly name: string;
  readonly value: unknown;
  readonly problems: readonly Problem[];
  /** `config.yaml:12:5` of the key at a path, or of the nearest section above it. */
  locate(path: ConfigPath): string;
  /** Whether the file itself names this path. */
  has(path: ConfigPath): boolean;
}

/** How a file is read: what messages call it, and whether numbers stay the text they are written as, for money. */
export interface FileKind {
  readonly what: string;
  readonly missing?: string;
  readonly numbers?: "as text";
}

const CONFIGURATION: FileKind = {
  what: "configuration file",
  missing: "`tokenwatt config init` prints one to start from",
};

/** Reads a YAML file. What is wrong with it is in `problems`; never throws. */
export function readConfigFile(name: string, kind: FileKind = CONFIGURATION): ConfigFile {
  try {
    return parseConfigText(name, readTextOf(name), kind);
  } catch (error) {
    const { code, reason } = error as FileError;
    const hint = code === "ENOENT" ? kind.missing : undefined;
    const problem = { path: "", message: `Cannot read ${kind.what} ${name}: ${reason}`, hint };
    return { name, value: {}, problems: [problem], locate: () => name, has: () => false };
  }
}

/** Reads the text of a YAML file; `name` is what messages call it. */
function parseConfigText(name: string, text: string, kind: FileKind = CONFIGURATION): ConfigFile {
  const lines = new LineCounter();
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  const { document, faults } = parseYaml(text, lines, kind.numbers);
  const problems = shortened(
    faults.map(({ message, offset, hint }) => ({
      path: "",
      message: `Cannot read YAML: ${message}`,
      at: at(offset),
      hint,
    })),
  );
  const value: unknown = problems.length > 0 ? {} : (document.toJS({ maxAliasCount: -1 }) ?? {});
  const locate = (path: ConfigPath): string => {
    const { offset } = find(document, path);
    return offset === undefined ? name : at(offset);
  };
  return { name, value, problems, locate, has: (path) => find(document, path).depth === path.length };
}

/** What keeps a YAML text from being read, at its place. */
interface Fault {
  readonly message: string;
  readonly offset: number;
  readonly hint?: string | undefined;
}

function parseYaml(
  text: string,
  lineCounter: LineCounter,
  numbers?: "as text",
): { readonly document: Document; readonly faults: readonly Fault[] } {
  // The parser compares each key with all others: 60,000 keys took it a minute. `checkTree` does it in one pass.
  const document = parseDocument(text, {
    lineCounter,
    prettyErrors: false,
    uniqueKeys: false,
    version: "1.2",
  });
  // Once a token stands where none can, most of what follows does too: the first of them says it.
  const errors = [...document.errors, ...document.warnings];
  const first = errors.find(({ code }) => code === "UNEXPECTED_TOKEN");
  const faults: Fault[] = errors
    .filter((error) => error.code !== "UNEXPECTED_TOKEN" || error === first)
    .map((error) => ({
      // The parser's own words would quote the text.
      message: error === first ? "this cannot stand here" : lowerFirst(error.message),
      offset: error.pos[0],
      hint: YAML_HINTS[error.code],
    }));
  return { document, faults: faults.length > 0 ? faults : checkTree(document.contents, numbers) };
}

/** Aliases of one file, the values they may stand for all together, and sections inside of one another. */
const ALIASES_MAX = 100;
const ALIASED_VALUES_MAX = 10_000;
const DEPTH_MAX = 100;

/**
 * Duplicate keys, depth, and aliases that cannot be followed, in one pass: a file of bounded size must not take a minute.
 * With `numbers` each number becomes the text it is written as.
 */
function checkTree(contents: unknown, numbers?: "as text"): readonly Fault[] {
  const faults: Fault[] = [];
  const aliases = new Aliases(faults);
  const walk = (node: unknown): number => {
    if (isAlias(node)) return aliases.sizeOf(node);
    if (isPair(node)) return walk(node.key) + walk(node.value);
    if (isScalar(node)) {
      if (numbers !== undefined && typeof node.value === "number") node.value = node.source ?? node.value;
      return aliases.closed(node, 1);
    }
    if (!isCollection(node)) return 0;
    if (isMap(node)) faults.push(...unusableKeys(node.items));
    if (aliases.opened(node) > DEPTH_MAX) {
      faults.push({
        message: `more than ${DEPTH_MAX} sections inside of one another`,
        offset: node.range?.[0] ?? 0,
      });
      return 0;
    }
    let size = 1;
    for (const item of node.items) size += walk(item);
    return aliases.closed(node, size);
  };
  walk(contents);
  return faults;
}

/** Anchors in the order of the file, how many values each stands for, and which of them is still being read. */
class Aliases {
  readonly #faults: Fault[];
  readonly #anchors = new Map<string, Node>();
  readonly #sizes = new Map<Node, number>();
  readonly #open = new Set<Node>();
  #aliases = 0;
  #values = 0;

  constructor(faults: Fault[]) {
    this.#faults = faults;
  }

  /** Begins a section; returns how many are open. */
  opened(node: Node & { readonly anchor?: string }): number {
    if (node.anchor !== undefined) this.#anchors.set(node.anchor, node);
    return this.#open.add(node).size;
  }

  /** Ends a section or a value; returns its size. */
  closed(node: Node & { readonly anchor?: string }, size: number): number {
    if (node.anchor !== undefined) this.#anchors.set(node.anchor, node);
    this.#open.delete(node);
    this.#sizes.set(node, size);
    return size;
  }

  /** The number of values an alias stands for; 0 where it cannot be followed. */
  sizeOf(alias: Alias): number {
    const name = `alias *${alias.source}`;
    const target = this.#anchors.get(alias.source);
    if (target === undefined) return this.#refuse(alias, `${name} has no anchor before it`);
    if (this.#open.has(target)) return this.#refuse(alias, `${name} stands inside of what it means`);
    if (this.#aliases > ALIASES_MAX) return 0;
    this.#values += this.#sizes.get(target) ?? 1;
    if (this.#values > ALIASED_VALUES_MAX) {
      this.#aliases = ALIASES_MAX;
      return this.#refuse(
        alias,
        `${name} and those before it stand for more than ${ALIASED_VALUES_MAX} values`,
      );
    }
    if (++this.#aliases > ALIASES_MAX)
      return this.#refuse(alias, `${name} is one of more than ${ALIASES_MAX}`);
    return this.#sizes.get(target) ?? 1;
  }

  #refuse(alias: Alias, message: string): number {
    this.#aliases++;
    this.#faults.push({ message, offset: alias.range?.[0] ?? 0, hint: "write the value out" });
    return 0;
  }
}

/** Keys that stand twice in a section, or cannot be keys: JavaScript would drop or rename them in silence. */
function unusableKeys(items: readonly Pair[]): readonly Fault[] {
  const seen = new Set<string>();
  return items.flatMap(({ key, value }) => {
    const offset = ((key ?? value) as Node | null)?.range?.[0] ?? 0;
    if (!isScalar(key) && !isAlias(key)) {
      return [{ message: "a key must be a word or a text in quotes", offset, hint: undefined }];
    }
    const name = isScalar(key) ? String(key.value) : key.source;
    if (name === "__proto__") return [{ message: "this key cannot be used", offset, hint: undefined }];
    if (isScalar(key) && !seen.has(name)) {
      seen.add(name);
      return [];
    }
    if (!isScalar(key)) return [];
    const message = "this key stands in its section already";
    return [{ message, offset, hint: YAML_HINTS["DUPLICATE_KEY"] }];
  });
}

const YAML_HINTS: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: "each key may stand once in its section; merge the two",
  TAG_RESOLVE_FAILED: "only plain YAML is read, without tags of other programs",
  RESOURCE_EXHAUSTION: "it is nested too deep",
  UNEXPECTED_TOKEN:
    "look at the end of the line above too: a bracket or a quote may be missing, or one too many",
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
  const { document, faults } = parseYaml(text, new LineCounter());
  const [fault] = faults;
  if (fault !== undefined) throw new Error(fault.message);
  return document.toJS({ maxAliasCount: -1 });
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
