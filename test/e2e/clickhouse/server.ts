// ClickHouse's HTTP interface as clickhouse-go 2.47 uses it, over ClickHouse's own engine (chdb): statements in the body,
// inserts with the statement in `query` and blocks of format Native in the body, answers as one Native block. No server
// package could be had; what is missing here (users, compression, other formats) no shipped file asks for.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

const engine = fileURLToPath(new URL("engine.py", import.meta.url));

interface Answer {
  readonly meta: readonly { readonly name: string; readonly type: string }[];
  readonly data: readonly (readonly (string | number)[])[];
}

/** A running ClickHouse. */
export interface ClickHouse {
  readonly url: string;
  /** Statements it was sent, inserts without their rows. */
  readonly statements: readonly string[];
  /** Rows of a query, by column; throws what the engine says. */
  query(sql: string): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** From now on every statement over HTTP fails, or does not. */
  fail(failing: boolean): void;
  stop(): Promise<void>;
}

/** Starts it on loopback; `python` has chdb. */
export async function startClickHouse(python: string): Promise<ClickHouse> {
  const folder = mkdtempSync(join(tmpdir(), "clickhouse-"));
  const child = spawn(python, [engine], { stdio: ["pipe", "pipe", "inherit"] });
  const ask = asker(child);
  const statements: string[] = [];
  let inserts = 0;
  let failing = false;
  const answer = async (request: IncomingMessage): Promise<Buffer> => {
    const body = await buffer(request);
    const insert = new URL(request.url ?? "/", "http://127.0.0.1").searchParams.get("query");
    const sql = insert ?? body.toString();
    if (failing) throw new Error("Memory limit exceeded");
    statements.push(sql);
    if (insert === null) return nativeBlock(await ask(sql));
    const [, into] = /^\s*(INSERT INTO .*?)\s*(?:VALUES|FORMAT Native)\s*$/is.exec(insert) ?? [];
    if (into === undefined)
      throw new Error(`Cannot insert: wanted INSERT INTO ... FORMAT Native, got ${insert}`);
    const file = join(folder, `${inserts++}.native`);
    writeFileSync(file, body);
    await ask(`${into} SELECT * FROM file('${file}', 'Native')`);
    rmSync(file);
    return Buffer.alloc(0);
  };
  const server = createServer((request, response) => {
    answer(request).then(
      (bytes) => response.writeHead(200, { "content-length": bytes.length }).end(bytes),
      (error: Error) => response.writeHead(500, { "x-clickhouse-exception-code": "1" }).end(error.message),
    );
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    statements,
    query: async (sql) => {
      const { meta, data } = await ask(sql);
      return data.map((row) => Object.fromEntries(meta.map(({ name }, index) => [name, row[index]])));
    },
    fail: (now) => {
      failing = now;
    },
    stop: async () => {
      server.closeAllConnections();
      server.close();
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** One statement after the other; an empty answer has neither columns nor rows. */
function asker(child: ChildProcess): (sql: string) => Promise<Answer> {
  const waiting: ((line: string) => void)[] = [];
  createInterface({ input: child.stdout as NonNullable<ChildProcess["stdout"]> }).on("line", (line) =>
    waiting.shift()?.(line),
  );
  return async (sql) => {
    const line = await new Promise<string>((resolve, reject) => {
      if (child.exitCode !== null) reject(new Error(`the engine ended with ${child.exitCode}`));
      waiting.push(resolve);
      child.stdin?.write(`${JSON.stringify({ sql })}\n`);
    });
    const { error, text } = JSON.parse(line) as { error?: string; text?: string };
    if (error !== undefined) throw new Error(error);
    return text === undefined || text.trim() === "" ? { meta: [], data: [] } : (JSON.parse(text) as Answer);
  };
}

/** A block as revisions from 54454 write it: block info, counts, then each column. Strings and UInt32 only. */
function nativeBlock({ data, meta }: Answer): Buffer {
  if (meta.length === 0) return Buffer.alloc(0);
  const parts = [Buffer.from([1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0]), varint(meta.length), varint(data.length)];
  for (const [index, { name, type }] of meta.entries()) {
    parts.push(text(name), text(type), Buffer.from([0]));
    for (const row of data) {
      const value = row[index] ?? "";
      if (type === "String") parts.push(text(String(value)));
      else if (type === "UInt32") parts.push(Buffer.from(Uint32Array.of(Number(value)).buffer));
      else throw new Error(`Cannot answer with a column of type ${type}`);
    }
  }
  return Buffer.concat(parts);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    bytes.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
    if (rest <= 0x7f) return Buffer.from(bytes);
  }
}
