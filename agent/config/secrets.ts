// What must never be printed: `config print`, error messages and the log pass values through here.
// Credentials belong into files (`bearerFile`, `keyFile`); this is for those who put them elsewhere all the same.
import type { ConfigPath } from "./paths.ts";

/** What stands in the place of a secret. */
const MASK = "********";

const SECRET_KEY =
  /^(authorization|bearer|token|credentials?|secret|password|passphrase|apikey|api_key|key)$/i;
const SECRET_ENDING = /(Password|Passphrase|Secret|ApiKey|AuthToken|AccessToken|BearerToken)$/;
const SECRET_SECTION = /^headers$/i;

/** The value as it may be shown: secrets by key, header values, and user names, passwords and keys inside URLs masked. */
export function masked(path: ConfigPath, value: unknown): unknown {
  if (value === null || value === undefined || typeof value === "boolean") return value;
  const secret = path.some((step, index) => {
    if (typeof step !== "string") return false;
    return (
      SECRET_KEY.test(step) ||
      SECRET_ENDING.test(step) ||
      (SECRET_SECTION.test(step) && index < path.length - 1)
    );
  });
  if (secret) return typeof value === "object" ? maskAll(value) : MASK;
  if (typeof value === "string") return maskUrl(value);
  if (Array.isArray(value)) return value.map((item, index) => masked([...path, index], item));
  if (typeof value === "object") {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, masked([...path, key], item)]),
    );
  }
  return value;
}

function maskAll(value: object): unknown {
  if (Array.isArray(value)) return value.map(() => MASK);
  return Object.fromEntries(Object.keys(value).map((key) => [key, MASK]));
}

function maskUrl(text: string): string {
  return text
    .replace(/^([a-z][a-z0-9+.-]*:\/\/)?[^/@\s]*:[^/@\s]*@/i, `$1${MASK}@`)
    .replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/@\s]*@/i, `$1${MASK}@`)
    .replaceAll(/([?&](?:[a-z_-]*(?:token|key|secret|password))=)[^&#\s]*/gi, `$1${MASK}`);
}
