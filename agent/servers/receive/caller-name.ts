// What a caller is called on the audit record, and whether it has the token that a receiver wants.
import { createHash, timingSafeEqual } from "node:crypto";
import type { AccessCounts, AccessResult } from "../../platform/access-counts.ts";
import { isLoopbackHost } from "../../platform/address.ts";
import { readTextOf } from "../../platform/files.ts";
import type { Metadata, ServiceError } from "../../platform/grpc.ts";
import { status } from "../../platform/grpc.ts";
import type { SourceContext } from "../../source.ts";
import { retryLater } from "./recorder.ts";

/** Of a token's SHA-256: which one it was, and nothing of what it is. */
const TOKEN_DIGITS = 8;

/** What a call that is not let in is answered. */
export type Status = Partial<ServiceError> & { readonly code: number; readonly details: string };

/** One call on its way to the record: counted once, under the best name its caller has by then. */
export class CountedCall {
  readonly #access: Pick<AccessCounts, "count">;
  readonly #isCertified: boolean;
  #caller: string;
  #isCounted = false;

  constructor(access: Pick<AccessCounts, "count">, connection: string, scope: string) {
    this.#access = access;
    this.#isCertified = scope.startsWith("certificate ");
    this.#caller = accessName(connection, scope);
  }

  /** It showed a token: who has no certificate is called by that. */
  named(token: string | undefined): void {
    if (!this.#isCertified) this.#caller = token ?? this.#caller;
  }

  /** What became of it; what comes after the first says nothing new. */
  count(result: AccessResult): void {
    if (!this.#isCounted) this.#access.count(this.#caller, result);
    this.#isCounted = true;
  }

  /** The same by the code of its answer. */
  answered(code: number): void {
    this.count(resultOf(code));
  }
}

function accessName(connection: string, scope: string): string {
  if (scope.startsWith("certificate ")) return scope;
  if (scope.startsWith("uid ")) return `loopback ${scope}`;
  const address = connection.slice(0, Math.max(0, connection.lastIndexOf(":"))) || connection;
  return address.startsWith("unix/") || isLoopbackHost(address) ? "loopback" : `address ${address}`;
}

function resultOf(code: number): AccessResult {
  if (code === status.OK) return "ok";
  if (code === status.UNAUTHENTICATED) return "unauthenticated";
  if (code === status.CANCELLED) return "broken";
  return code === status.INVALID_ARGUMENT ? "malformed" : "refused";
}

/** What a token is called, or why the call is refused; undefined where none is wanted. */
export function checkBearer(
  file: string | undefined,
  metadata: Metadata,
  { log }: SourceContext,
): { readonly name?: string; readonly refused?: Status } | undefined {
  if (file === undefined) return undefined;
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  try {
    const token = readTextOf(file).trim();
    const seen = digest(String(metadata.get("authorization")[0] ?? ""));
    if (token !== "" && timingSafeEqual(digest(`Bearer ${token}`), seen))
      return { name: `bearer:${digest(token).toString("hex").slice(0, TOKEN_DIGITS)}` };
  } catch (error) {
    log.error("callers cannot be checked", {
      cause: (error as Error).message,
      hint: "bearerFile must be readable",
    });
    return { refused: retryLater("tokens cannot be checked now") };
  }
  return { refused: { code: status.UNAUTHENTICATED, details: "a bearer token is wanted" } };
}
