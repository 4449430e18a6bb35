// Whether everything a configuration names can be used: the price file, certificates, keys, tokens and recordings. `run`,
// a reload, `config check` and `doctor` ask this alike, so that none accepts what another refuses. What is on this host
// beside the files (ports, GPUs, peers, the state folder) is not the configuration's fault and is judged where it is used.
import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import type { Catalogue } from "../meter/money/catalogue.ts";
import { FileError, readFileOf, readTextOf } from "../platform/files.ts";
import { callMetadata } from "../platform/grpc.ts";
import { SourceError } from "../source.ts";
import type { LoadedConfig } from "./load.ts";
import { configuredBackends, configuredServers } from "./load.ts";
import type { ConfigPath } from "./paths.ts";
import { formatPath, parsePath, valueAt } from "./paths.ts";
import type { LoadedPolicy } from "./policy.ts";
import { readPolicy } from "./policy.ts";
import { readPrices } from "./prices.ts";
import type { NamedFiles, Problem } from "./problems.ts";
import { ConfigError } from "./problems.ts";

/** What the documents a configuration names hold; absent = none is named. */
export interface NamedDocuments {
  readonly catalogue: Catalogue | undefined;
  readonly policy: LoadedPolicy | undefined;
}

/** The price file's catalogue and the policy. Throws ConfigError with every file that cannot be used. */
export function readNamedFiles(loaded: LoadedConfig): NamedDocuments {
  const { catalogue, problems } = readPriceFile(loaded);
  const { policy, problems: more } = readPolicyFile(loaded);
  problems.push(...more, ...fileProblems(loaded), ...recordingProblems(loaded));
  if (problems.length > 0) throw new ConfigError(problems);
  return { catalogue, policy };
}

/** The error with what is wrong with the files too, so that everything is said at once; any other error as it is. */
export function withFileProblems(error: unknown): unknown {
  if (!(error instanceof ConfigError) || error.named === undefined) return error;
  return new ConfigError([
    ...error.problems,
    ...readPriceFile(error.named).problems,
    ...readPolicyFile(error.named).problems,
    ...fileProblems(error.named),
  ]);
}

function readPriceFile({ config }: NamedFiles): { catalogue: Catalogue | undefined; problems: Problem[] } {
  const prices = valueAt(config, ["prices"]);
  try {
    return { catalogue: typeof prices === "string" ? readPrices(prices) : undefined, problems: [] };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { catalogue: undefined, problems: [...error.problems] };
  }
}

function readPolicyFile({ config }: NamedFiles): { policy: LoadedPolicy | undefined; problems: Problem[] } {
  const policy = valueAt(config, ["policy"]);
  const hasPrices = valueAt(config, ["prices"]) !== undefined;
  try {
    return {
      policy: typeof policy === "string" ? readPolicy(policy, { hasPrices }) : undefined,
      problems: [],
    };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { policy: undefined, problems: [...error.problems] };
  }
}

/** What is wrong with the content of a file under each key that names one; throws Error with the end of a sentence. */
const READERS: Readonly<Record<string, (path: string) => void>> = {
  caFile: readCertificates,
  clientCaFile: readCertificates,
  certFile: readCertificates,
  keyFile: readFileOf,
  bearerFile: readToken,
  tokenFile: readToken,
  headersFile: (path) => {
    readTextOf(path);
    callMetadata({ target: "", headersFile: path });
  },
};

function fileProblems({ config, files: named, origin }: NamedFiles): Problem[] {
  const files = named
    .filter((path) => path.at(-1) !== "prices" && path.at(-1) !== "policy")
    .map((path) => [path, valueAt(config, path)] as const);
  const problems = files.flatMap(([path, file]) => {
    const read = READERS[String(path.at(-1))] ?? readFileOf;
    return problemOf(path, () => read(String(file)), origin, `${String(file)}`);
  });
  if (problems.length > 0) return problems;
  // Each of a pair can be read; they must belong together too.
  return files.flatMap(([path]) => {
    if (path.at(-1) !== "keyFile") return [];
    const cert = valueAt(config, [...path.slice(0, -1), "certFile"]);
    const key = String(valueAt(config, path));
    if (typeof cert !== "string") return [];
    return problemOf(path, () => checkPair(cert, key), origin, key);
  });
}

function problemOf(
  path: ConfigPath,
  read: () => void,
  origin: NamedFiles["origin"],
  file: string,
): Problem[] {
  try {
    read();
    return [];
  } catch (error) {
    const name = formatPath(path);
    return [{ path: name, message: `Cannot use ${name} (${file}): ${reasonOf(error)}`, at: origin(path) }];
  }
}

function reasonOf(error: unknown): string {
  return error instanceof FileError ? error.reason : (error as Error).message;
}

function readCertificates(path: string): void {
  const blocks = readTextOf(path).match(
    /-----BEGIN (TRUSTED )?CERTIFICATE-----[\s\S]*?-----END (TRUSTED )?CERTIFICATE-----/g,
  );
  if (blocks === null) throw new Error("it holds no certificate, wanted PEM (-----BEGIN CERTIFICATE-----)");
  for (const [index, block] of blocks.entries()) {
    try {
      new X509Certificate(block);
    } catch {
      throw new Error(`its certificate ${index + 1} of ${blocks.length} cannot be read, wanted PEM`);
    }
  }
}

function checkPair(certFile: string, keyFile: string): void {
  const [cert, key] = [readFileOf(certFile), readFileOf(keyFile)];
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    const reason = /mismatch/i.test((error as Error).message)
      ? `it is not the key of ${certFile}`
      : "it holds no private key that can be read, wanted PEM without a password (-----BEGIN PRIVATE KEY-----)";
    throw new Error(reason, { cause: error });
  }
}

function readToken(path: string): void {
  const token = readTextOf(path).trim();
  if (token === "") throw new Error("it is empty, wanted a token");
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new Error("it holds more than one word of printable ASCII, wanted a token");
}

/** Recordings are opened like any source; one that cannot be is the configuration's fault, unlike a GPU that is not there. */
function recordingProblems({ config, origin }: LoadedConfig): Problem[] {
  const sources = [
    ...configuredBackends(config).map(({ backend, section }) => ({
      path: ["gpu", backend.name, "path"],
      check: () => backend.check?.(section),
    })),
    ...configuredServers(config).map(({ type, entry, path }) => ({
      path: [...(parsePath(path) ?? []), "path"],
      check: () => type.check?.(entry),
    })),
  ];
  return sources.flatMap(({ path, check }) => {
    try {
      check();
      return [];
    } catch (error) {
      if (!(error instanceof SourceError)) throw error;
      return [{ path: formatPath(path), message: error.message, at: origin(path), hint: error.hint }];
    }
  });
}
