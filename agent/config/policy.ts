// The policy file named by `policy`: read and judged like the price file, every problem at once with path, line and nearest
// key. What a policy means is agent/policy/; here is only what a file may be blamed for, and what is worth a warning.
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import type { z } from "zod";
import { readTextOf } from "../platform/files.ts";
import type { Policy } from "../policy/config.ts";
import { policyFile, policyOf } from "../policy/config.ts";
import { readConfigFile } from "./file.ts";
import { allPaths, jsonSchemaOf, knownKeys } from "./key-tree.ts";
import type { Problem } from "./problems.ts";
import { ConfigError, problemsOf } from "./problems.ts";

/** A policy and the file it came from. */
export interface LoadedPolicy {
  readonly policy: Policy;
  readonly path: string;
  /** Who owns the file, and when it was last written: for the record. */
  readonly uid: number;
  readonly modifiedMillis: number;
}

/** What of the rest of a configuration a policy depends on. */
export interface PolicySurroundings {
  readonly hasPrices: boolean;
}

/** The policy in a file. Throws ConfigError with every problem found in it. */
export function readPolicy(path: string, { hasPrices }: PolicySurroundings): LoadedPolicy {
  const file = readConfigFile(path, {
    what: "policy file",
    missing: "correct `policy`, or leave it out: then there are no quotas",
  });
  if (file.problems.length > 0) throw new ConfigError(file.problems);
  const parsed = policyFile.safeParse(file.value);
  const schema = jsonSchemaOf(policyFile);
  const problems = parsed.success
    ? []
    : problemsOf(parsed.error.issues, {
        whole: "the policy file",
        root: file.value,
        locate: file.locate,
        knownKeys: (at) => knownKeys(schema, at),
        allPaths: () => allPaths(schema),
      });
  if (parsed.success) problems.push(...quotaProblems(parsed.data, file.locate, hasPrices));
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems);
  const { mtimeMs, uid } = statSync(path);
  return { policy: policyOf(parsed.data, readTextOf(path)), path, uid, modifiedMillis: Math.round(mtimeMs) };
}

/** What changes when a file is written or replaced; undefined while it cannot be read. */
export function identityOf(path: string): string | undefined {
  try {
    const { ino, mtimeNs, size } = statSync(path, { bigint: true });
    return createHash("sha256").update(`${ino} ${mtimeNs} ${size}`).digest("hex");
  } catch {
    return undefined;
  }
}

type Written = z.output<typeof policyFile>;

function quotaProblems(
  { quotas, rls }: Written,
  locate: (path: readonly (string | number)[]) => string,
  hasPrices: boolean,
): Problem[] {
  const problems: Problem[] = [];
  const firsts = new Map<string, number>();
  const complain = (index: number, key: string, wrong: string, hint: string): void => {
    const path = `quotas[${index}].${key}`;
    problems.push({
      path,
      message: `Cannot use ${path}: ${wrong}`,
      at: locate(["quotas", index, key]),
      hint,
    });
  };
  for (const [index, one] of quotas.entries()) {
    const first = firsts.get(one.name);
    if (first === undefined) firsts.set(one.name, index);
    else {
      const wrong = `${JSON.stringify(one.name)} is already the name of quotas[${first}]`;
      complain(index, "name", wrong, "names are part of every metric and unique; give one of them another");
    }
    if (one.count === "cost" && one.currency === undefined) {
      complain(index, "count", "cost without a currency", "add `currency`, that of the price file");
    }
    if (one.count === "cost" && !hasPrices) {
      complain(index, "count", "the configuration names no price file", "set `prices` in the configuration");
    }
    if (one.count !== "cost" && one.currency !== undefined) {
      complain(index, "currency", `${one.count} has none`, "leave it out, or count cost");
    }
    if ((one.count === "weighted") !== (one.weights !== undefined)) {
      const wrong = one.count === "weighted" ? "weighted without weights" : `${one.count} takes no weights`;
      complain(index, "weights", wrong, "`weights` and `count: weighted` belong together");
    }
    if (one.source === "engine" && (one.match.tenant !== undefined || one.match.endpoint !== undefined)) {
      complain(
        index,
        "source",
        "an engine knows no tenant and no endpoint",
        "match by model alone, or count from gateways",
      );
    }
    if (one.mode === "local" && rls === undefined) {
      complain(
        index,
        "mode",
        "local without `rls`",
        "name where to answer rate-limit calls: rls: {listen: 127.0.0.1:9467}",
      );
    }
    if (one.mode !== "mirror" && one.count === "cost") {
      complain(
        index,
        "mode",
        `${one.mode} with a quota of cost`,
        "calls charge tokens, not money: mirror it",
      );
    }
    if (one.reserve !== undefined && one.mode === "mirror") {
      complain(index, "reserve", "a mirror answers no call", "leave it out, or set mode to shadow or local");
    }
  }
  return problems;
}
