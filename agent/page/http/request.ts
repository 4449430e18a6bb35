// The text of a GET: the headers that node:http would send, each name once however it is spelled.
import { SourceError } from "../../source.ts";

/** What all requests to one peer have in common. */
export interface RequestHead {
  /** The peer as its `host` header says it. */
  readonly host: string;
  readonly headers: Readonly<Record<string, string>>;
  /** `user:password`, sent where no header says who asks. */
  readonly credentials: string | undefined;
}

const UNSENDABLE = /[^\t\x20-\x7e\x80-\xff]/;
const UNSENDABLE_PATH = /[^\x21-\xff]/;

/** The request for `path`. Throws SourceError (transient) where it holds what no request can carry. */
export function requestText(path: string, head: RequestHead): string {
  if (UNSENDABLE_PATH.test(path)) throw unsendable("path", "percent-encode blanks and what is not ASCII");
  const lines = new Map<string, string>();
  for (const [name, value] of Object.entries(head.headers)) {
    lines.set(name.toLowerCase(), `${name}: ${value}`);
  }
  if (head.credentials !== undefined && !lines.has("authorization"))
    lines.set("authorization", `Authorization: Basic ${Buffer.from(head.credentials).toString("base64")}`);
  if (!lines.has("host")) lines.set("host", `Host: ${head.host}`);
  if (!lines.has("connection")) lines.set("connection", "Connection: keep-alive");
  for (const [name, line] of lines)
    if (UNSENDABLE.test(line)) throw unsendable(`header ${name}`, "one line, without control characters");
  return `GET ${path} HTTP/1.1\r\n${[...lines.values()].join("\r\n")}\r\n\r\n`;
}

function unsendable(what: string, hint: string): SourceError {
  return new SourceError("transient", `Cannot ask for a metric page: its ${what} holds what cannot be sent`, {
    hint,
  });
}
