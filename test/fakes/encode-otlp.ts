// One snapshot as OTLP requests, for tests that encode once.
import type { Attributes } from "../../agent/export/otlp/attributes.ts";
import { createOtlpEncoder } from "../../agent/export/otlp/encoder.ts";
import type { LedgerSnapshot } from "../../agent/model.ts";

/** The bytes of each request. */
export function encodeOtlp(snapshot: LedgerSnapshot, resource: Attributes, version = "0"): Uint8Array[] {
  return createOtlpEncoder({ resource, version })
    .encode(snapshot)
    .map((request) => request.bytes);
}
