// Answers as peers might send them, right and wrong, for the laws of the reader; and what node:http makes of the same bytes.
import { Agent, get } from "node:http";
import fc from "fast-check";

/** What a client makes of an answer. */
export type Outcome =
  | {
      readonly is: "whole";
      readonly status: number;
      readonly reason: string;
      readonly headers: Readonly<Record<string, unknown>>;
      readonly body: string;
    }
  | { readonly is: "cut" | "foreign" };

const often = <Value>(weight: number, ...values: readonly Value[]) => ({
  arbitrary: fc.constantFrom(...values),
  weight,
});

const statusLine = fc.oneof(
  often(12, "HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.0 200 OK", "HTTP/1.1 404 Not Found"),
  often(4, "HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified", "HTTP/1.1 500 é ~", "HTTP/1.1 299 A\tB"),
  often(1, "HTTP/1.2 200 OK", "HTTP/2.0 200 OK", "HTTP/1.1  200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK"),
  often(
    1,
    "HTP/1.1 200 OK",
    "http/1.1 200 OK",
    "SSH-2.0-x",
    "HTTP/1.1 abc",
    "HTTP/1.1",
    "\0\0\x12\x04",
    "HTTP/0.9 200 OK",
  ),
);

const header = fc.oneof(
  often(
    8,
    "content-type: text/plain",
    "Content-Type: a/b",
    "x-a: 1",
    "X-A:2",
    "X-a:\t3 \t",
    "server: u",
    "set-cookie: a=1",
  ),
  often(
    4,
    "connection: close",
    "Connection: Keep-Alive",
    "connection: x, CLOSE",
    "keep-alive: timeout=5",
    "date: é",
  ),
  often(
    2,
    "location: /a",
    "cookie: a",
    "x-b:",
    "etag: 1",
    "__proto__: x",
    "constructor: y",
    "toString: z",
    "x!#$%&'*+.^_`|~: 1",
  ),
  often(
    1,
    "no colon",
    "x y: 1",
    "x-c : 1",
    " folded: 1",
    "\tfolded",
    "x-d: \u0001",
    "x-e: \u007f",
    ": 1",
    "x-é: 1",
    "x-f: a\rb",
  ),
);

const bodyText = fc.string({ unit: fc.constantFrom("a", " ", "1", "\n", "\r", "0"), maxLength: 60 });

/** A body, and the headers that say how long it is: mostly rightly. */
const framed = bodyText.chain((text) =>
  fc.oneof(
    { arbitrary: fc.constant({ headers: [`content-length: ${text.length}`], body: text }), weight: 6 },
    { arbitrary: fc.constant({ headers: [] as string[], body: text }), weight: 3 },
    { arbitrary: chunked(text), weight: 8 },
    {
      arbitrary: fc
        .constantFrom(
          [`content-length: ${text.length + 3}`],
          ["transfer-encoding: gzip"],
          ["transfer-encoding: chunked, gzip"],
          ["content-length: x"],
          ["content-length: -1"],
          [`content-length: +${text.length}`],
          [`content-length: ${text.length} `],
          ["content-length: "],
          ["content-length: 1 2"],
          [`content-length: 00${text.length}`],
          [`content-length: ${text.length}`, `content-length: ${text.length}`],
          [`content-length: ${text.length}, ${text.length}`],
          [`content-length: ${text.length}`, "transfer-encoding: chunked"],
          [`content-length: ${text.length}`, "transfer-encoding: gzip"],
        )
        .map((headers) => ({ headers, body: text })),
      weight: 3,
    },
  ),
);

function chunked(text: string) {
  const name = fc.constantFrom(
    ["transfer-encoding: chunked"],
    ["Transfer-Encoding: Chunked"],
    ["transfer-encoding: gzip, chunked"],
    ["transfer-encoding: gzip", "transfer-encoding: chunked"],
  );
  const extension = fc.oneof(
    often(8, ""),
    often(2, ";a", ";a=b", ';a="b c"', ";a=b;c=d"),
    often(
      1,
      " ",
      "x",
      ";",
      ";=",
      "; a",
      ';a="',
      ";a b",
      ";a=",
      ";a;",
      ';a="b\\"c"',
      ';a="b"c',
      ";a=b=c",
      ";a =b",
      ";=b",
    ),
  );
  const size = fc.constantFrom(
    (n: number) => n.toString(16),
    (n: number) => `00${n.toString(16).toUpperCase()}`,
  );
  const ending = fc.oneof(often(12, "\r\n"), often(1, "\n", "", "x\r\n", " \r\n"));
  const trailers = fc.oneof(
    often(8, ""),
    often(2, "x-t: 1\r\n", "x-t: 1\r\nx-u: 2\r\n"),
    often(1, "no colon\r\n", "x y: 1\r\n"),
  );
  const cuts = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 4 });
  return fc.record({ name, extension, size, ending, trailers, cuts }).map((said) => {
    let body = "";
    let at = 0;
    for (let index = 0; at < text.length; index++) {
      const part = text.slice(at, at + (said.cuts[index % said.cuts.length] as number));
      body += `${said.size(part.length)}${said.extension}\r\n${part}${said.ending}`;
      at += part.length;
    }
    return { headers: said.name, body: `${body}0\r\n${said.trailers}\r\n` };
  });
}

/** The bytes of an answer, as latin1. */
export const answerTexts: fc.Arbitrary<string> = fc
  .record({
    before: fc.oneof(
      often(8, ""),
      often(2, "\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"),
      often(1, "\n", "\r", " "),
    ),
    statusLine,
    headers: fc.array(header, { maxLength: 4 }),
    framed,
    ending: fc.oneof(often(20, "\r\n"), often(1, "\n", "\r", "\r\r\n")),
    kept: fc.oneof(often(10, 1), { arbitrary: fc.double({ min: 0, max: 1, noNaN: true }), weight: 2 }),
  })
  .map(({ before, ending, framed: { body, headers: framing }, headers, kept, statusLine: line }) => {
    const head = [line, ...headers, ...framing].map((each) => each + ending).join("");
    const text = `${before}${head}\r\n${body}`;
    return text.slice(0, Math.floor(kept * text.length));
  });

/** What node:http makes of the answer of a server at `port`. */
export function oracle(port: number): Promise<Outcome> {
  return new Promise((resolve) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const finish = (outcome: Outcome): void => {
      agent.destroy();
      resolve(outcome);
    };
    const fail = (error: NodeJS.ErrnoException): void =>
      finish({ is: error.code?.startsWith("HPE_") === true ? "foreign" : "cut" });
    const request = get({ host: "127.0.0.1", port, agent }, (response) => {
      let body = "";
      response.on("data", (part: Buffer) => (body += part.toString("latin1")));
      response.on("error", fail);
      response.on("end", () => {
        const { headers, statusCode: status = 0, statusMessage: reason = "" } = response;
        finish({ is: "whole", status, reason, headers: { ...headers }, body });
      });
    });
    request.on("error", fail);
  });
}
