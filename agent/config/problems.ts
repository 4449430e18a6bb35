// What is wrong with a configuration, in words: zod's issues become sentences with place, value seen and a way out.
// A schema may say what it wants (`error: "host:port"`) and how to get there (`params: {hint}` of a refinement, or a
// second line `hint: ...` in the error).
import type { z } from "zod";
import { nearest } from "./nearest.ts";
import type { ConfigPath } from "./paths.ts";
import { formatPath, leaves, valueAt } from "./paths.ts";
import { masked } from "./secrets.ts";

/** One thing to fix. `at` is a place in a file, an environment variable or a flag. */
export interface Problem {
  readonly path: string;
  readonly message: string;
  readonly at?: string | undefined;
  readonly hint?: string | undefined;
}

/** The files a configuration names, wherever else it is wrong: `files` are the places of their names. */
export interface NamedFiles {
  readonly config: unknown;
  readonly files: readonly ConfigPath[];
  /** `config.yaml:12:5`, an environment variable, `--set` or `default`. */
  origin(path: ConfigPath): string;
}

/** The configuration cannot be used; `problems` holds everything that is wrong with it. Ends with exit code 2. */
export class ConfigError extends Error {
  readonly kind = "misconfigured";
  readonly problems: readonly Problem[];

  /** What else may be wrong with it; absent where its files were looked at, or it could not be read that far. */
  readonly named: NamedFiles | undefined;

  constructor(problems: readonly Problem[], named?: NamedFiles) {
    super(problems.map(formatProblem).join("\n\n"));
    this.name = "ConfigError";
    this.problems = problems;
    this.named = named;
  }
}

/** A problem as two or three lines of text. */
function formatProblem({ message, at, hint }: Problem): string {
  const lines = [
    message,
    ...(at === undefined ? [] : [`at: ${at}`]),
    ...(hint === undefined ? [] : [`hint: ${hint}`]),
  ];
  return harmless(lines.join("\n"));
}

/** What problems are described with: the values seen, where each came from, and the keys there are. */
export interface ProblemContext {
  /** What the root is called: "the configuration", "the price file". */
  readonly whole: string;
  readonly root: unknown;
  locate(path: ConfigPath): string | undefined;
  /** Keys the schema knows at a path. */
  knownKeys(path: ConfigPath): readonly string[];
  /** Every key path of the schema. */
  readonly allPaths: () => readonly string[];
}

/** Problems shown of one file: who has more fixes these first, and a hundred thousand would take minutes to describe. */
const PROBLEMS_MAX = 50;

/** At most 50 problems, and how many there are beyond. */
export function shortened(problems: readonly Problem[], total = problems.length): Problem[] {
  const kept = problems.slice(0, PROBLEMS_MAX);
  const more = total - kept.length;
  if (more > 0) kept.push({ path: "", message: `There are ${more} more problems like these` });
  return kept;
}

/** The problems behind zod's issues, in the order of the file; at most 50, and how many there are beyond. */
export function problemsOf(issues: readonly z.core.$ZodIssue[], context: ProblemContext): Problem[] {
  const single = issues.flatMap((issue): z.core.$ZodIssue[] =>
    issue.code === "unrecognized_keys" ? issue.keys.map((key) => ({ ...issue, keys: [key] })) : [issue],
  );
  const described = single.slice(0, PROBLEMS_MAX).flatMap((issue) => {
    const path = issue.path as ConfigPath;
    if (issue.code === "unrecognized_keys") return [unknownKey([...path, issue.keys[0] ?? ""], context)];
    if (issue.code === "invalid_union") return unionProblems(issue, context);
    return [valueProblem(path, wantedBy(issue), hintOf(issue) ?? nearValue(issue, context), context)];
  });
  return shortened(described, described.length + Math.max(0, single.length - PROBLEMS_MAX));
}

function unknownKey(path: ConfigPath, context: ProblemContext): Problem {
  const key = String(path.at(-1));
  const section = path.slice(0, -1);
  const known = context.knownKeys(section);
  const near = nearest(key, known);
  const elsewhere = context.allPaths().filter((other) => other.split(/[.[\]]+/).at(-1) === key);
  const serverTypes = formatPath(section) === "servers";
  let hint = `known keys here: ${known.join(", ")}`;
  if (serverTypes) hint = `known server types: ${known.join(", ") || "none in this build"}`;
  if (near !== undefined) hint = `did you mean "${near}"?${serverTypes ? ` ${hint}` : ""}`;
  else if (elsewhere.length > 0) hint = `did you mean ${elsewhere.slice(0, 3).join(" or ")}? ${hint}`;
  const what = serverTypes ? "there is no such server type" : "there is no such key";
  return {
    path: formatPath(path),
    message: `Cannot use ${shortenedText(formatPath(path))}: ${what}`,
    at: context.locate(path),
    hint,
  };
}

function valueProblem(
  path: ConfigPath,
  wanted: string,
  hint: string | undefined,
  context: ProblemContext,
): Problem {
  const seen = valueAt(context.root, path);
  const name = path.length === 0 ? context.whole : shortenedText(formatPath(path));
  const message =
    seen === undefined
      ? `Cannot find ${name}: wanted ${wanted}`
      : `Cannot read ${name} as ${wanted}: got ${shown(path, seen)}`;
  const empty =
    seen === null ? "nothing is written behind the key: write a value, or leave the key out" : undefined;
  return {
    path: path.length === 0 ? "" : formatPath(path),
    message,
    at: context.locate(path),
    hint: hint ?? empty,
  };
}

/** Of a value with several forms: what keeps it from the form it is closest to, else all forms there are. */
function unionProblems(issue: z.core.$ZodIssueInvalidUnion, context: ProblemContext): Problem[] {
  const path = issue.path as ConfigPath;
  const forms = issue.errors.filter((issues) => issues.length > 0);
  const sections = forms.filter((issues) =>
    issues.every(({ code, path: inner }) => inner.length > 0 || code === "unrecognized_keys"),
  );
  const closest = sections.sort((a, b) => a.length - b.length)[0];
  if (closest !== undefined && typeof valueAt(context.root, path) === "object") {
    const inner = closest.map((one) => ({ ...one, path: [...path, ...one.path] }) as z.core.$ZodIssue);
    return problemsOf(inner, context);
  }
  const direct = forms.flatMap((issues) => issues.filter((inner) => inner.path.length === 0));
  const wanted = [...new Set(direct.map(wantedBy))].join(" or ");
  return [valueProblem(path, wanted || "one of its forms", direct.map(hintOf).find(Boolean), context)];
}

const TYPES: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "a section of keys",
  record: "a section of keys",
  undefined: "nothing",
  null: "nothing",
};

function wantedBy(issue: z.core.$ZodIssue): string {
  if (!/^(Invalid|Too|Unrecognized)/.test(issue.message)) return ownWords(issue.message).wanted;
  switch (issue.code) {
    case "invalid_type":
      return TYPES[issue.expected] ?? issue.expected;
    case "invalid_value":
      return issue.values.length === 1 ? String(issue.values[0]) : `one of ${issue.values.join(", ")}`;
    case "too_small":
      return bounded(issue.origin, issue.inclusive === false ? "more than" : "at least", issue.minimum);
    case "too_big":
      return bounded(issue.origin, issue.inclusive === false ? "less than" : "at most", issue.maximum);
    case "invalid_format":
      return issue.format === "regex" ? `text like ${issue.pattern ?? "its pattern"}` : `a ${issue.format}`;
    default:
      return issue.message;
  }
}

function bounded(origin: string, relation: string, limit: number | bigint): string {
  if (origin === "string")
    return limit === 1 ? "text that is not empty" : `text of ${relation} ${limit} characters`;
  if (origin === "array") return `a list of ${relation} ${limit} entries`;
  if (origin === "number" || origin === "int" || origin === "bigint")
    return `a number of ${relation} ${limit}`;
  return `${relation} ${limit} keys`;
}

function nearValue(issue: z.core.$ZodIssue, context: ProblemContext): string | undefined {
  if (issue.code !== "invalid_value") return undefined;
  const seen = valueAt(context.root, issue.path as ConfigPath);
  const near = typeof seen === "string" ? nearest(seen, issue.values.map(String)) : undefined;
  return near === undefined ? undefined : `did you mean "${near}"?`;
}

function hintOf(issue: z.core.$ZodIssue): string | undefined {
  const params = "params" in issue ? (issue.params as { hint?: unknown } | undefined) : undefined;
  if (typeof params?.hint === "string") return params.hint;
  return ownWords(issue.message).hint;
}

/** A schema's own error: `host:port`, `Cannot read as host:port: got "x"; add the port`, or with `hint:` on a new line. */
function ownWords(message: string): { readonly wanted: string; readonly hint: string | undefined } {
  const match =
    /^(?:cannot read as |wanted |expected )?(.*?)(?:[:,] got .*?)?(?:(?:; |\nhint: )([^;]*))?$/is.exec(
      message,
    );
  return { wanted: match?.[1] ?? message, hint: match?.[2] };
}

const SHOWN_MAX = 80;

function shown(path: ConfigPath, value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) {
    return leaves(value).length === 0
      ? "an empty section"
      : `a section with ${shortenedText(Object.keys(value).join(", "))}`;
  }
  // A whole file that is no section may be anything, a private key too.
  if (path.length === 0 && typeof value === "string") return "text";
  if (value === null) return "nothing";
  if (typeof value === "number") return String(value);
  return shortenedText(JSON.stringify(masked(path, value)) ?? String(value));
}

/** The text, shortened. */
function shortenedText(text: string): string {
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}...` : text;
}

/** Without characters that would move a terminal's cursor or turn its writing round. */
function harmless(text: string): string {
  return text.replaceAll(
    /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
