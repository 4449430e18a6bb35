// The audit record on its way out, to a collector of logs on a real socket: whatever it answers and whenever the agent is
// stopped, every entry arrives, in order, and what arrives proves the chain by itself. What is refused is told.
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { requestHead } from "../../../agent/export/otlp/attributes.ts";
import { AuditSender } from "../../../agent/export/otlp/audit-sender.ts";
import { grpcTransport } from "../../../agent/export/otlp/transport.ts";
import type { ChainedAudit } from "../../../agent/model.ts";
import type { VirtualClock } from "../../../agent/platform/clock.ts";
import { virtualClock } from "../../../agent/platform/clock.ts";
import { status } from "../../../agent/platform/grpc.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { tagOf, WireReader } from "../../../agent/platform/protobuf-reader.ts";
import { chainHash, chainStart } from "../../../agent/store/ledger/digests.ts";
import type { Answer, FakeCollector } from "../../fakes/otlp-collector.ts";
import { startCollector } from "../../fakes/otlp-collector.ts";

const START = 1_800_000_000_000_000_000n;
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** A record of so many entries. */
function chain(length: number, size = 10): ChainedAudit[] {
  const entries: ChainedAudit[] = [];
  let previous = chainStart;
  for (let sequence = 1; sequence <= length; sequence++) {
    const [at, kind] = [String(START + BigInt(sequence)), sequence % 3 === 0 ? "close" : "policy"] as const;
    const body = JSON.stringify({ quota: "ü".repeat(size), sequence });
    previous = chainHash(previous, sequence, { at, kind, body: {} }, body);
    entries.push({ sequence, at, kind, body, hash: previous });
  }
  return entries;
}

/** The entries of a request, as a receiver reads them. */
function decode(bytes: Uint8Array): (ChainedAudit & { readonly severity: number })[] {
  const found: (ChainedAudit & { readonly severity: number })[] = [];
  fields(bytes, [1], (resourceLogs) =>
    fields(resourceLogs, [2], (scopeLogs) =>
      fields(scopeLogs, [2], (record) => {
        const one = { sequence: 0, at: "", kind: "", body: "", hash: "", severity: 0 };
        const reader = new WireReader(record);
        for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
          // Nanoseconds do not fit a number.
          if (tag === 0x09) [one.at] = [String(Buffer.from(record).readBigUInt64LE(1)), reader.fixed64()];
          else if (tag === tagOf(2, "varint")) one.severity = reader.uint();
          else if (tag === tagOf(5, "bytes")) fields(reader.slice(), [1], (text) => (one.body = utf8(text)));
          else if (tag === tagOf(12, "bytes"))
            one.kind = utf8(reader.slice()).replace("tokenwatt.audit.", "");
          else if (tag === tagOf(6, "bytes")) {
            const pair = reader.slice();
            let key = "";
            fields(pair, [1], (text) => (key = utf8(text)));
            fields(pair, [2], (value) => {
              const any = new WireReader(value);
              if (any.tag() === tagOf(3, "varint")) one.sequence = any.uint();
              else if (key === "tokenwatt.audit.hash") one.hash = utf8(any.slice());
            });
          } else reader.skip(tag);
        }
        found.push(one);
      }),
    ),
  );
  return found;
}

function utf8(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}

function fields(bytes: Uint8Array, [field]: readonly [number], take: (content: Uint8Array) => void): void {
  const reader = new WireReader(bytes);
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === tagOf(field, "bytes")) take(reader.slice());
    else reader.skip(tag);
  }
}

interface Rig {
  readonly sender: AuditSender;
  readonly clock: VirtualClock;
  readonly lost: (readonly [number, string])[];
}

function senderTo(port: number, entries: readonly ChainedAudit[], position = 0): Rig {
  const clock = virtualClock(START);
  const lost: (readonly [number, string])[] = [];
  const sender = new AuditSender({
    ...{ destination: "main", clock, log: silentLog, position, timeoutMs: 1e9 },
    transport: grpcTransport({ target: `127.0.0.1:${port}` }, { gzip: true, clock, signal: "logs" }),
    head: requestHead(
      { "service.name": "tokenwatt" },
      { name: "tokenwatt.audit", version: "1" },
      "https://x",
    ),
    read: async (after, max) => entries.slice(after, after + max),
    onLoss: (...loss) => lost.push(loss),
  });
  closing.push(() => sender.stop());
  return { sender, clock, lost };
}

async function collector(answer?: (index: number) => Answer | undefined): Promise<FakeCollector> {
  const made = await startCollector({ signal: "logs", ...(answer === undefined ? {} : { answer }) });
  closing.push(() => made.close());
  return made;
}

/** Wakes it until nothing is left, pauses passed over. */
async function drain({ clock, sender }: Rig, length: number): Promise<void> {
  for (let round = 0; sender.status.position < length; round++) {
    if (round > 200) throw new Error(`stays at ${sender.status.position}: ${sender.status.lastError}`);
    await sender.wake();
    await clock.advance(clock.now() + 400e9);
  }
}

function arrived({ requests }: FakeCollector): ChainedAudit[] {
  return requests.flatMap(decode).map(({ severity, ...entry }) => {
    expect(severity).toBe(9);
    return entry;
  });
}

const answers = fc.constantFrom<Answer>(
  { kind: "ok" },
  { kind: "ok" },
  { kind: "taken_then_lost" },
  { kind: "error", code: status.UNAVAILABLE },
  { kind: "error", code: status.UNIMPLEMENTED, message: "unknown service" },
  { kind: "error", code: status.RESOURCE_EXHAUSTED, message: "over quota" },
);

test("every entry arrives at least once and in order, whatever is answered and wherever it is begun again", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 1200 }),
      fc.array(answers, { maxLength: 6 }),
      fc.integer({ min: 1, max: 3 }),
      async (length, told, lives) => {
        const entries = chain(length);
        const peer = await collector((index) => told[index]);
        let position = 0;
        for (let life = 1; life <= lives; life++) {
          const rig = senderTo(peer.port, entries.slice(0, Math.ceil((length * life) / lives)), position);
          await drain(rig, Math.ceil((length * life) / lives));
          // What is stored is a beat behind: the last entries come again.
          position = Math.max(0, rig.sender.status.position - 7);
          expect(rig.lost).toEqual([]);
          await rig.sender.stop();
        }
        const firsts = [
          ...new Map(
            arrived(peer)
              .toReversed()
              .map((one) => [one.sequence, one]),
          ).values(),
        ];
        expect(firsts.toReversed().toSorted((a, b) => a.sequence - b.sequence)).toEqual(entries);
        let highest = 0;
        for (const { sequence } of arrived(peer)) {
          expect(sequence).toBeLessThanOrEqual(highest + 1);
          highest = Math.max(highest, sequence);
        }
        let previous = chainStart;
        for (const { at, body, hash, kind, sequence } of entries) {
          previous = chainHash(previous, sequence, { at, kind: kind as "policy", body: {} }, body);
          expect(hash).toBe(previous);
        }
        await peer.close();
      },
    ),
    { numRuns: 12 },
  );
});

test("an entry that cannot be taken is passed over alone, and told with its number", async () => {
  const entries = chain(60);
  const peer = await startCollector({
    signal: "logs",
    answer: (_, bytes) =>
      decode(bytes).some(({ sequence }) => sequence === 37)
        ? { kind: "error", code: status.INVALID_ARGUMENT, message: "no such event" }
        : { kind: "ok" },
  });
  closing.push(() => peer.close());
  const rig = senderTo(peer.port, entries);
  await drain(rig, 60);
  expect(arrived(peer).map(({ sequence }) => sequence)).toEqual(
    entries.map(({ sequence }) => sequence).filter((sequence) => sequence !== 37),
  );
  expect(rig.lost).toEqual([[1, "INVALID_ARGUMENT: no such event"]]);
  expect(rig.sender.status).toMatchObject({ position: 60, lost: 1 });
});

test("a part that is refused is counted, and not sent again", async () => {
  const peer = await collector(() => ({ kind: "partial", rejected: 2, message: "too old" }));
  const rig = senderTo(peer.port, chain(5));
  await drain(rig, 5);
  expect(rig.lost).toEqual([[2, "partial: too old"]]);
  expect(peer.requests).toHaveLength(1);
});

test("requests stay below what receivers take", async () => {
  const peer = await collector();
  const rig = senderTo(peer.port, chain(300, 10_000));
  await drain(rig, 300);
  expect(peer.requests.length).toBeGreaterThan(2);
  expect(Math.max(...peer.requests.map(({ length }) => length))).toBeLessThan(4e6);
  expect(arrived(peer)).toHaveLength(300);
});
