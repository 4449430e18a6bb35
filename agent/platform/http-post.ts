// One POST of a form to an HTTP API, with a deadline and a bound on the answer; redirects are not followed. Credentials come
// from files that are read for each request, so that what is replaced is taken up.
import type { IncomingMessage, RequestOptions } from "node:http";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { shownAddress, splitCredentials } from "./address.ts";
import type { Clock } from "./clock.ts";
import { readFileOf, readTextOf } from "./files.ts";
import { explainTls } from "./tls.ts";

/** Where to and how. */
export interface FormTarget {
  /** `http://...` or `https://...`. */
  readonly url: string;
  readonly tls?:
    | {
        readonly caFile?: string | undefined;
        readonly certFile?: string | undefined;
        readonly keyFile?: string | undefined;
      }
    | undefined;
  /** Sent as `authorization: Bearer <content>`. */
  readonly bearerFile?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly timeoutMs: number;
  readonly bytesMax: number;
}

/** The body of a 2xx answer. Rejects with what was seen, in one sentence, the address without its secrets. */
export async function postForm(
  target: FormTarget,
  form: Readonly<Record<string, string>>,
  clock: Clock,
): Promise<string> {
  const what = `Cannot ask ${shownAddress(target.url)}`;
  const stop = new AbortController();
  const cancel = clock.at(clock.now() + target.timeoutMs * 1e6, () => stop.abort());
  try {
    const response = await send(target, new URLSearchParams(form).toString(), stop.signal);
    const body = await bodyOf(response, target.bytesMax);
    const { statusCode = 0, statusMessage = "" } = response;
    if (statusCode >= 200 && statusCode < 300) return body;
    throw new Error(`it answers ${statusCode} ${statusMessage}: ${body.slice(0, 200)}`);
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    const late = `no full answer within ${target.timeoutMs} ms`;
    const [reason] = stop.signal.aborted ? [late] : (explainTls(`${code} ${message}`) ?? [message]);
    throw new Error(`${what}: ${reason}`, { cause: error });
  } finally {
    cancel();
  }
}

async function send(target: FormTarget, body: string, signal: AbortSignal): Promise<IncomingMessage> {
  const { address, credentials } = splitCredentials(target.url);
  const { caFile, certFile, keyFile } = target.tls ?? {};
  const options: RequestOptions = {
    method: "POST",
    agent: false,
    signal,
    headers: {
      accept: "application/json",
      "content-type": "application/x-www-form-urlencoded",
      "content-length": Buffer.byteLength(body),
      ...target.headers,
      ...(target.bearerFile === undefined
        ? {}
        : { authorization: `Bearer ${readTextOf(target.bearerFile).trim()}` }),
    },
    ...(credentials === undefined ? {} : { auth: credentials }),
    ...(caFile === undefined ? {} : { ca: readFileOf(caFile) }),
    ...(certFile === undefined ? {} : { cert: readFileOf(certFile) }),
    ...(keyFile === undefined ? {} : { key: readFileOf(keyFile) }),
  };
  return new Promise((resolve, reject) => {
    const by = /^https:/i.test(address) ? httpsRequest : httpRequest;
    by(address, options, resolve).on("error", reject).end(body);
  });
}

async function bodyOf(response: IncomingMessage, bytesMax: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    length += (chunk as Buffer).length;
    if (length > bytesMax) {
      response.destroy();
      throw new Error(`its answer is longer than ${bytesMax} bytes`);
    }
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}
