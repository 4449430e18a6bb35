// What a status says about how a request ended, for the gateways that publish one.
import type { Outcome } from "../model.ts";

/** What an HTTP status says of a request. 499 is "client closed the request" (nginx, Envoy). */
export function outcomeOfStatus(status: string | undefined): Outcome {
  if (status === undefined || /^[23]/.test(status)) return "ok";
  if (status === "429") return "rejected";
  return status === "499" ? "aborted" : "error";
}
