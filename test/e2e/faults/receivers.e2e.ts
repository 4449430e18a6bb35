// Receivers under attack: 480 calls or streams at a time over 60 connections, with gzip bombs, with messages as large as
// they may be, and with messages that never end. Measured is the memory of the receiver's process. An honest caller, who
// comes again when asked to, must be counted in full, though perhaps only once the attack is over.
import { fork } from "node:child_process";
import type { ClientHttp2Session } from "node:http2";
import { connect } from "node:http2";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import type { ReceiverKind } from "../../fakes/receivers.ts";
import { receiverKinds, send } from "../../fakes/receivers.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const CONNECTIONS = 60;
const CALLS = 8;
const ATTACK_MS = 2500;
/** The unit allows 384 MB; the agent itself takes about 135. */
const MORE_MB_MAX = 200;

/** Generated code holds enums, which Node must be told to transform. */
const GENERATED_CODE = ["--no-warnings", "--experimental-transform-types"];

interface Report {
  readonly base: number;
  readonly peak: number;
  readonly tokens: number;
}

/** A receiver in a process of its own. */
async function start(kind: ReceiverKind): Promise<{ address: string; report(): Promise<Report> }> {
  const flags = ["--max-semi-space-size=2", "--heap-growing-percent=70"];
  const path = fileURLToPath(new URL("./receiver-child.ts", import.meta.url));
  const child = fork(path, [kind.name], { execArgv: [...flags, ...GENERATED_CODE] });
  closing.push(() => child.kill());
  const next = <Message>(): Promise<Message> =>
    new Promise((resolve, reject) => {
      child.once("message", (message) => resolve(message as Message));
      child.once("exit", (code) => reject(new Error(`the receiver's process ended with ${code}`)));
    });
  const { address } = await next<{ address: string }>();
  return {
    address,
    report: () => {
      child.send("report");
      return next<Report>();
    },
  };
}

/** A gRPC frame. */
function frame(bytes: Buffer, compressed: boolean): Buffer {
  const head = Buffer.alloc(5);
  head[0] = compressed ? 1 : 0;
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** A message of one field nobody reads, as large as the receiver takes. */
function largest(kind: ReceiverKind): Buffer {
  const bytes = kind.stream ? 256 * 1024 : 4 * 1024 * 1024;
  const length: number[] = [];
  let rest = bytes - 8;
  for (; rest > 127; rest = Math.floor(rest / 128)) length.push((rest % 128) | 128);
  return Buffer.concat([Buffer.from([0x7a, ...length, rest]), Buffer.alloc(bytes - 8)]);
}

type Attack = (kind: ReceiverKind) => { readonly bytes: Buffer; readonly end: boolean };
const attacks: Readonly<Record<string, Attack>> = {
  "gzip bombs": (kind) => {
    const bomb = frame(gzipSync(largest(kind), { level: 9 }), true);
    return {
      bytes: Buffer.concat(Array<Buffer>(Math.floor(16_384 / bomb.length) + 1).fill(bomb)),
      end: true,
    };
  },
  "messages as large as they may be": (kind) => ({ bytes: frame(largest(kind), false), end: true }),
  "messages that never end": (kind) => ({ bytes: frame(largest(kind), false).subarray(0, -1), end: false }),
};

/** Calls without pause until `ms` are over; returns how many ended. */
async function attack(
  address: string,
  kind: ReceiverKind,
  { bytes, end }: ReturnType<Attack>,
): Promise<number> {
  const until = Date.now() + ATTACK_MS;
  let ended = 0;
  const call = (session: ClientHttp2Session): void => {
    if (Date.now() > until || session.destroyed) return;
    const stream = session.request({
      ":method": "POST",
      ":path": kind.method,
      "content-type": "application/grpc",
      "grpc-encoding": "gzip",
      te: "trailers",
    });
    stream
      .on("error", () => {})
      .on("close", () => {
        ended++;
        setImmediate(() => call(session));
      });
    stream.resume();
    stream.write(bytes);
    if (end) stream.end();
  };
  for (let count = 0; count < CONNECTIONS; count++) {
    const session = connect(`http://${address}`);
    session.on("error", () => {});
    closing.push(() => session.destroy());
    for (let calls = 0; calls < CALLS; calls++) call(session);
  }
  await new Promise((resolve) => setTimeout(resolve, ATTACK_MS));
  return ended;
}

describe.each(receiverKinds)("$name under attack", (kind) => {
  test.each(Object.entries(attacks))(
    "%s: memory stays, honest callers are counted",
    async (name, prepare) => {
      const receiver = await start(kind);
      const attacking = attack(receiver.address, kind, prepare(kind));
      const target = { target: receiver.address };
      let [sent, over] = [0, false];
      const honest = (async () => {
        // Asked to come again it comes again, as the protocol wants.
        while (!over || sent === 0) {
          const report = kind.report(1);
          let taken = false;
          while (!taken)
            taken = await send(kind, target, report).then(
              () => true,
              () => false,
            );
          sent++;
        }
      })();
      const ended = await attacking;
      for (const close of closing.splice(1)) await close();
      over = true;
      await honest;
      let report = await receiver.report();
      while (report.tokens < sent) report = await receiver.report();
      const more = report.peak - report.base;
      console.log(
        `${kind.name}, ${name}: ${ended} calls, ${more.toFixed(0)} MB more, ${sent} honest reports counted`,
      );
      expect(report.tokens).toBe(sent);
      expect(more).toBeLessThan(MORE_MB_MAX);
    },
  );
});
