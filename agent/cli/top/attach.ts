// Follows the snapshots of a running agent over HTTP: server-sent events of `/-/view`, again and again until it is stopped.
// A stream that ends, says nothing for long or cannot be had is asked for again; meanwhile the host has a problem, and what
// it said last stays with it.
import type { ClientRequest, IncomingMessage } from "node:http";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import type { View, ViewHistory } from "../../export/page/view.ts";
import type { Clock } from "../../platform/clock.ts";

/** What came from a host. */
export type Said = View | ViewHistory | { readonly type: "problem"; readonly text: string };

const RETRY_MS = 2000;
const SILENCE_MS = 15_000;
/** More than any host says at once. */
const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

/** Where an agent serves its endpoints. */
export interface Target {
  /** `http://host:9464`. */
  readonly url: string;
  /** Its certificate is not judged: an agent on this host. */
  readonly isOwnHost: boolean;
}

/** Hands on what a host says until the signal. Never rejects. */
export async function followHost(
  target: Target,
  clock: Clock,
  signal: AbortSignal,
  hear: (said: Said) => void,
): Promise<void> {
  while (!signal.aborted) {
    const text = await readStream(target, signal, hear).then(
      () => `${target.url} ended the stream; asking again`,
      (error: Error) => problemOf(target.url, error),
    );
    if (signal.aborted) return;
    hear({ type: "problem", text });
    await clock.sleep(RETRY_MS, signal).catch(() => {});
  }
}

async function readStream(target: Target, signal: AbortSignal, hear: (said: Said) => void): Promise<void> {
  const answer = await open(target, signal);
  if (answer.statusCode !== 200) {
    const body =
      answer.statusCode === 404
        ? "no /-/view there: an older tokenwatt, or another program"
        : await firstLine(answer);
    throw new Error(`${answer.statusCode}: ${body}`);
  }
  answer.setEncoding("utf8");
  let waiting = "";
  for await (const chunk of answer) {
    waiting += chunk as string;
    const parts = waiting.split("\n\n");
    waiting = parts.pop() ?? "";
    if (waiting.length > MESSAGE_BYTES_MAX)
      throw new Error(`a message of more than ${MESSAGE_BYTES_MAX} bytes`);
    for (const part of parts) hearMessage(part, hear);
  }
}

/** Reads one message of a stream; a comment or a hint of it says nothing. */
export function hearMessage(message: string, hear: (said: Said) => void): void {
  const data = message.split("\n").find((line) => line.startsWith("data: "));
  if (data !== undefined) hear(JSON.parse(data.slice("data: ".length)) as Said);
}

function open({ isOwnHost, url }: Target, signal: AbortSignal): Promise<IncomingMessage> {
  const address = new URL("/-/view", url);
  const options = { signal, headers: { accept: "text/event-stream" }, timeout: SILENCE_MS };
  return new Promise((resolve, reject) => {
    const request: ClientRequest =
      address.protocol === "https:"
        ? httpsRequest(address, { ...options, ...(isOwnHost ? { rejectUnauthorized: false } : {}) }, resolve)
        : httpRequest(address, options, resolve);
    request.once("timeout", () => request.destroy(new Error(`nothing came for ${SILENCE_MS / 1000} s`)));
    request.once("error", reject);
    request.end();
  });
}

async function firstLine(answer: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of answer) {
    text += String(chunk);
    if (text.length > 1000) break;
  }
  return text.split("\n", 1)[0] ?? "";
}

function problemOf(url: string, error: Error & { readonly code?: string }): string {
  if (error.code === "ECONNREFUSED")
    return `nothing listens at ${url}: is tokenwatt running, with export.prometheus.listen there?`;
  if (error.code === "ENOTFOUND" || error.code === "EAI_AGAIN")
    return `${url}: its name cannot be resolved; correct it, or write the address`;
  const causes =
    error instanceof AggregateError
      ? (error.errors as Error[]).map(({ message }) => message).join("; ")
      : error.message;
  return `${url}: ${causes}`;
}
