// The head of an HTTP/1.1 answer, line by line, as strictly as node:http reads it (RFC 9112): what is not surely one
// answer is refused, since bytes that two readers understand in two ways are how answers get mixed up.

/** Headers by name in lower case; what came twice is joined, or the first of it counts, as node:http has it. */
export type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** The beginning of an answer. */
export interface AnswerHead {
  readonly status: number;
  readonly reason: string;
  readonly headers: Headers;
  /** How its body ends: after so many bytes, with a last chunk, or where the connection does. */
  readonly body: number | "chunked" | "until close";
  /** Its connection may be asked again. */
  readonly isKept: boolean;
}

/** What a peer sent is no HTTP/1.1 answer; the message says what was seen. */
export class ForeignAnswer extends Error {}

const STATUS_LINE = /^HTTP\/(0\.9|1\.[01]|2\.0) (\d{3})(?: (.*))?$/;
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what no header may hold
const UNSENDABLE = /[\x00-\x08\x0a-\x1f\x7f]/;
/** A second one of these is dropped: none can be joined. */
const SINGLE: ReadonlySet<string> = new Set([
  ...["age", "authorization", "content-length", "content-type", "etag", "expires", "from", "host"],
  ...["if-modified-since", "if-unmodified-since", "last-modified", "location", "max-forwards"],
  ...["proxy-authorization", "referer", "retry-after", "server", "user-agent"],
]);

/** Gathers the lines of one head. */
export class HeadLines {
  #status: RegExpExecArray | undefined;
  #headers: Record<string, string | string[]> = {};

  /** Nothing but empty lines came so far. */
  get isEmpty(): boolean {
    return this.#status === undefined;
  }

  /** Takes in a line without its end; true for the empty one that ends the head. Throws ForeignAnswer. */
  takeLine(line: string): boolean {
    if (this.#status !== undefined) {
      if (line === "") return true;
      const [name, value] = headerOf(line);
      this.#keep(name, value);
    } else if (line !== "") {
      this.#status = STATUS_LINE.exec(line) ?? undefined;
      if (this.#status === undefined) throw seen(line, 'wanted "HTTP/1.1 200 OK"');
    }
    return false;
  }

  /** What the lines say together. Throws ForeignAnswer where that is more than one thing. */
  finish(): AnswerHead {
    const [, version, status = "", reason = ""] = this.#status as RegExpExecArray;
    const headers = this.#headers;
    const body = bodyOf(Number(status), headers);
    const words = wordsOf(headers["connection"]);
    const wantsKept = version === "1.1" ? !words.includes("close") : words.includes("keep-alive");
    return { status: Number(status), reason, headers, body, isKept: wantsKept && body !== "until close" };
  }

  #keep(name: string, value: string): void {
    const before = Object.hasOwn(this.#headers, name) ? this.#headers[name] : undefined;
    if (name === "set-cookie") this.#headers[name] = [...((before as string[] | undefined) ?? []), value];
    else if (before === undefined) this.#headers[name] = value;
    else if (name === "content-length") throw seen(`content-length: ${value}`, "wanted one length");
    else if (!SINGLE.has(name)) this.#headers[name] = `${before}${name === "cookie" ? "; " : ", "}${value}`;
  }
}

/** The name, in lower case, and the value in a line of a head or of trailers. Throws ForeignAnswer. */
export function headerOf(line: string): [name: string, value: string] {
  const colon = line.indexOf(":");
  const name = line.slice(0, Math.max(0, colon));
  const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "");
  if (!NAME.test(name) || UNSENDABLE.test(value)) throw seen(line, 'wanted "name: value"');
  return [name.toLowerCase(), value];
}

/** That `text` came where something else was wanted. */
export function seen(text: string, wanted: string): ForeignAnswer {
  return new ForeignAnswer(`it sent ${JSON.stringify(text.slice(0, 60))}, ${wanted}`);
}

function bodyOf(status: number, headers: Readonly<Record<string, string | string[]>>): AnswerHead["body"] {
  const { "content-length": length, "transfer-encoding": coding } = headers;
  if (length !== undefined && !/^\d{1,15}$/.test(length as string))
    throw seen(`content-length: ${length}`, "wanted a number of bytes");
  if (length !== undefined && coding !== undefined)
    throw seen(`content-length: ${length} and transfer-encoding: ${coding}`, "wanted one of them");
  if (status < 200 || status === 204 || status === 304) return 0;
  if (coding !== undefined) return wordsOf(coding).at(-1) === "chunked" ? "chunked" : "until close";
  return length === undefined ? "until close" : Number(length);
}

function wordsOf(value: string | string[] | undefined): string[] {
  return value === undefined
    ? []
    : (value as string)
        .toLowerCase()
        .split(",")
        .map((word) => word.trim());
}
