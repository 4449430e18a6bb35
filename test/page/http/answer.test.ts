// Answers read as node:http reads them, right ones and wrong ones, however their bytes are cut; and what is said of those
// that are none.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AnswerReader } from "../../../agent/page/http/answer.ts";
import { Connection } from "../../../agent/page/http/connection.ts";
import type { AnswerHead } from "../../../agent/page/http/head.ts";
import { ForeignAnswer } from "../../../agent/page/http/head.ts";
import { serveRaw } from "../raw-server.ts";
import type { Outcome } from "./answers.ts";
import { answerTexts, oracle } from "./answers.ts";

/** A taker and what it was given. */
function collecting() {
  const taken: { head: AnswerHead | undefined; body: string } = { head: undefined, body: "" };
  const taker = {
    begin: (head: AnswerHead): void => {
      taken.head = head;
    },
    take: (bytes: Buffer, start: number, end: number): void => {
      taken.body += bytes.toString("latin1", start, end);
    },
  };
  return { taken, taker };
}

function outcomeOf(head: AnswerHead, body: string): Outcome {
  const { headers, reason, status } = head;
  return { is: "whole", status, reason, headers: { ...headers }, body };
}

/** What a reader makes of the text in pieces that end at `cuts`, and how many of its bytes are the answer's. */
function readIn(text: string, cuts: readonly number[]): { readonly outcome: Outcome; readonly used: number } {
  const { taken, taker } = collecting();
  const reader = new AnswerReader(taker);
  const ends = [...cuts.map((cut) => cut % (text.length + 1)), text.length].sort((a, b) => a - b);
  let [start, used] = [0, 0];
  try {
    for (const end of ends) {
      // Longer than the piece, as a buffer is that held another one before.
      const bytes = Buffer.from(`${text.slice(start, end)}\r\n\n0\r\n`, "latin1");
      if (end > start && !reader.isWhole) used += reader.read(bytes, end - start);
      start = end;
    }
  } catch (error) {
    expect(error).toBeInstanceOf(ForeignAnswer);
    return { outcome: { is: "foreign" }, used: 0 };
  }
  const isWhole = reader.end();
  return { outcome: isWhole ? outcomeOf(taken.head as AnswerHead, taken.body) : { is: "cut" }, used };
}

/** One that is wrong and is cut off too may be said to be either. */
const wholeOnly = (outcome: Outcome): Outcome | "none" => (outcome.is === "whole" ? outcome : "none");

async function ours(port: number): Promise<Outcome> {
  const connection = new Connection({ secure: false, options: { host: "127.0.0.1", port } }, () => {});
  const { taken, taker } = collecting();
  try {
    return outcomeOf(await connection.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n", taker), taken.body);
  } catch (error) {
    return { is: error instanceof ForeignAnswer ? "foreign" : "cut" };
  } finally {
    connection.destroy(new Error("read"));
  }
}

describe("an answer", () => {
  test("is read alike in whatever pieces it comes", () => {
    const cuts = fc.array(fc.nat({ max: 2000 }), { maxLength: 12 });
    fc.assert(
      fc.property(answerTexts, cuts, (text, places) => {
        expect(readIn(text, places)).toEqual(readIn(text, []));
        const each = Array.from({ length: text.length }, (_, index) => index);
        expect(readIn(text, each)).toEqual(readIn(text, []));
      }),
      { numRuns: 1000 },
    );
  });

  test("may have a head, and each of its chunks a line, nearly as long as one may be", () => {
    const chunk = `1;${"x".repeat(9000)}\r\na\r\n`;
    const head = `HTTP/1.1 200 OK\r\nx: ${"a".repeat(9000)}\r\ntransfer-encoding: chunked\r\n\r\n`;
    const early = `HTTP/1.1 103 Early Hints\r\nlink: ${"a".repeat(9000)}\r\n\r\n`;
    const { outcome } = readIn(`${early}${head}${chunk.repeat(4)}0\r\nx: ${"a".repeat(9000)}\r\n\r\n`, []);
    expect(outcome).toMatchObject({ is: "whole", body: "aaaa" });
  });

  test("is read as node:http reads it", async () => {
    let pieces: readonly string[] = [];
    const { port } = await serveRaw((socket) => {
      socket.setNoDelay(true);
      socket.once("data", async () => {
        for (const piece of pieces) {
          socket.write(Buffer.from(piece, "latin1"));
          await new Promise(setImmediate);
        }
        socket.end();
      });
    });
    await fc.assert(
      fc.asyncProperty(answerTexts, fc.nat({ max: 300 }), async (text, cut) => {
        pieces = [text.slice(0, cut), text.slice(cut)];
        const [wanted, read] = [await oracle(port), await ours(port)];
        const more = readIn(text, []).used < text.length && read.is === "whole";
        // What came behind an answer has node refuse the answer too, or not, as the pieces fall. Here it ends the connection.
        if (more && wanted.is === "foreign") return;
        expect(wholeOnly(read)).toEqual(wholeOnly(wanted));
      }),
      { numRuns: 250 },
    );
  });

  test.each([
    ["\0\0\x12\x04", 'it sent "\\u0000\\u0000\\u0012\\u0004", wanted "HTTP/1.1 200 OK"'],
    ["SSH-2.0-OpenSSH_9.6", 'it sent "SSH-2.0-OpenSSH_9.6", wanted "HTTP/1.1 200 OK"'],
    ["HTTP/1.1 2x0 OK\r\n", 'it sent "HTTP/1.1 2x0 OK", wanted "HTTP/1.1 200 OK"'],
    ["HTTP/1.1 200 OK\n", 'it sent "HTTP/1.1 200 OK", wanted a carriage return at the end of the line'],
    ["HTTP/1.1 200 OK\r\nx\r\n", 'it sent "x", wanted "name: value"'],
    ["HTTP/1.1 200 OK\r\nx: 1\r\n folded\r\n", 'it sent " folded", wanted "name: value"'],
    ["HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n", "wanted one length"],
    ["HTTP/1.1 200 OK\r\ncontent-length: 1e3\r\n\r\n", "wanted a number of bytes"],
    ["HTTP/1.1 200 OK\r\ncontent-length: 9999999999999999\r\n\r\n", "wanted a number of bytes"],
    ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", 'it sent "x", wanted the size of a chunk'],
    [
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
      'it sent "b", wanted the end of a chunk',
    ],
    [`HTTP/1.1 200 OK\r\nx: ${"a".repeat(16_400)}`, "in a head or a line of more than 16384 bytes"],
    [`HTTP/1.1 200 OK\r\n${"x: a\r\n".repeat(3000)}`, "in a head or a line of more than 16384 bytes"],
    [
      `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n${"x: a\r\n".repeat(3000)}`,
      "more than 16384 bytes",
    ],
    [`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;${"x".repeat(16_400)}`, "more than 16384 bytes"],
  ])("that is none is refused with what was seen: %j", (text, said) => {
    const bytes = Buffer.from(text, "latin1");
    const reader = new AnswerReader(collecting().taker);
    expect(() => reader.read(bytes, bytes.length)).toThrow(ForeignAnswer);
    const again = new AnswerReader(collecting().taker);
    expect(() => again.read(bytes, bytes.length)).toThrow(said);
  });
});

test.each([
  ["HTTP/1.1 200 OK\r\ncontent-length: 0", false],
  ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close", true],
  ["HTTP/1.0 200 OK\r\ncontent-length: 0", true],
  ["HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive", false],
  ["HTTP/1.1 204 No Content", false],
])("a connection is asked again unless its answer says no: %j, %s", async (head, isGone) => {
  const { port } = await serveRaw(
    (socket) => void socket.once("data", () => socket.write(`${head}\r\n\r\n`)),
  );
  const connection = new Connection({ secure: false, options: { host: "127.0.0.1", port } }, () => {});
  await connection.ask("GET / HTTP/1.1\r\n\r\n", collecting().taker);
  expect(connection.isGone).toBe(isGone);
  connection.destroy(new Error("read"));
});

test("a connection that sent what was not asked for is not asked again", async () => {
  const page = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na";
  for (const isTogether of [true, false]) {
    const { port } = await serveRaw((socket) => {
      socket.once("data", () => {
        socket.write(isTogether ? page + page : page);
        if (!isTogether) setImmediate(() => socket.write("HTTP/1.1 200 OK\r\n"));
        socket.once("close", () => ended.resolve());
      });
    });
    const ended = Promise.withResolvers<void>();
    const connection = new Connection({ secure: false, options: { host: "127.0.0.1", port } }, () => {});
    const { taken, taker } = collecting();
    await connection.ask("GET / HTTP/1.1\r\n\r\n", taker);
    expect(taken.body).toBe("a");
    await ended.promise;
    expect(connection.isGone).toBe(true);
  }
});
