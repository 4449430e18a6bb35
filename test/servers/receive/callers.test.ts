// Whom a receiver takes callers for: users over real sockets, rows of the kernel's tables, and what is each caller's own.
import { mkdtempSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { LastPoints } from "../../../agent/servers/otlp/last-points.ts";
import { MetricsReader } from "../../../agent/servers/otlp/metrics.ts";
import { RecordsReader } from "../../../agent/servers/otlp/records.ts";
import { SeriesTable } from "../../../agent/servers/otlp/series.ts";
import { addressScope, Callers, tcpRows } from "../../../agent/servers/receive/callers.ts";
import { ReceiverMemory } from "../../../agent/servers/receive/memory.ts";
import { PeerRates } from "../../../agent/servers/receive/peer-rates.ts";
import { UsageTotals } from "../../../agent/servers/receive/usage-totals.ts";
import { field, message } from "../../fakes/grpc-peer.ts";
import { metricsRequest } from "../otlp-messages.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const info = { id: "r", type: "otlp", family: "gateway", address: "x", pollMs: 1000 } as const;
const me = `uid ${process.getuid?.()}`;

/** The receiving ends of two connections to `place`. */
async function twoConnections(place: { path: string } | { host: string; port: number }): Promise<Socket[]> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(place, () => resolve()));
  const address = server.address();
  const to =
    typeof address === "string" ? { path: address } : { host: "127.0.0.1", port: address?.port ?? 0 };
  const clients = [connect(to), connect(to)];
  closing.push(() => {
    for (const socket of [...clients, ...sockets]) socket.destroy();
    server.close();
  });
  await expect.poll(() => sockets).toHaveLength(2);
  return sockets;
}

describe("Callers", () => {
  test("knows the user of a process that connects over loopback", async () => {
    const sockets = await twoConnections({ host: "127.0.0.1", port: 0 });
    const callers = new Callers();
    expect(await Promise.all(sockets.map((socket) => callers.admit(socket)))).toEqual([true, true]);
    for (const { remoteAddress, remotePort } of sockets)
      expect(callers.scopeOf(`${remoteAddress}:${remotePort}`)).toBe(me);
  });

  test("knows the user behind a unix socket", async () => {
    const at = mkdtempSync(join(tmpdir(), "tokenwatt-callers-"));
    closing.push(() => rmSync(at, { recursive: true }));
    const [socket] = (await twoConnections({ path: join(at, "s") })) as [Socket];
    Object.defineProperty(socket, "remoteAddress", { value: "unix/1" });
    const callers = new Callers();
    expect(await callers.admit(socket)).toBe(true);
    expect(callers.scopeOf("unix/1")).toBe(me);
  });

  test("takes nobody for a user whose process has left", async () => {
    const [socket] = (await twoConnections({ host: "127.0.0.1", port: 0 })) as [Socket];
    const gone = {
      ...{ localAddress: "127.0.0.1", remoteAddress: "127.0.0.1" },
      localPort: socket.localPort,
    };
    expect(await new Callers().admit({ ...gone, remotePort: 1 } as Socket)).toBe(false);
  });

  test("takes who comes from elsewhere for an address", async () => {
    const once = (): void => {};
    const place = { localAddress: "10.0.0.1", localPort: 1, remoteAddress: "10.0.0.2", remotePort: 2 };
    const far = { ...place, once } as unknown as Socket;
    const callers = new Callers();
    expect(await callers.admit(far)).toBe(true);
    expect(callers.scopeOf("10.0.0.2:2")).toBe(addressScope);
  });

  test("knows a connection as long as it lasts, however many came and went since", async () => {
    const callers = new Callers();
    const [lasting] = (await twoConnections({ host: "127.0.0.1", port: 0 })) as [Socket];
    await callers.admit(lasting);
    for (let port = 1; port <= 10_000; port++) {
      const once = (_: string, close: () => void) => close();
      await callers.admit({
        localPort: 1,
        remoteAddress: "10.0.0.2",
        remotePort: port,
        once,
      } as unknown as Socket);
    }
    expect(callers.scopeOf(`${lasting.remoteAddress}:${lasting.remotePort}`)).toBe(me);
  });

  test("reads rows of IPv4, IPv6 and IPv4 in IPv6, and passes over other addresses", () => {
    const rest = "00000000:00000000 00:00000000 00000000  1000        0 5 1 0 20 4 30 10 -1";
    const table = [
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
      `   0: 0100007F:1F90 0100007F:0050 01 ${rest}`,
      `   1: 00000000000000000000000001000000:0001 00000000000000000000000001000000:0002 06 ${rest}`,
      `   2: 0000000000000000FFFF00000200007F:0003 0000000000000000FFFF00000100007F:0004 01 ${rest}`,
      `   3: 0100000A:0005 0200000A:0006 01 ${rest}`,
      `  12: 00000000:0007 00000000:0000 0A ${rest}`,
    ].join("\n");
    expect(tcpRows(table).map((row) => [row.address, row.port, row.peerPort, row.state, row.user])).toEqual([
      ["127.0.0.1", 8080, 80, "01", "1000"],
      ["::1", 1, 2, "06", "1000"],
      ["127.0.0.2", 3, 4, "01", "1000"],
      ["", 7, 0, "0A", "1000"],
    ]);
  });
});

const name = "gen_ai.client.inference.usage.output_tokens";
const point = (sum: number, time: number) => ({ sum, time, start: 5, attributes: {} });

describe("two callers", () => {
  const reader = (memory = new ReceiverMemory("r")) => {
    const totals = new UsageTotals(info, 0, "e");
    const metrics = new MetricsReader(new SeriesTable(new LastPoints(1, memory)), {});
    const take = (caller: string, value: number, time: number): number => {
      const spec = { name, points: [point(value, time)] };
      metrics.take(metricsRequest([spec]), totals, () => true, caller);
      return totals.sample(0, "gateway").readings[0]?.tokens.output ?? 0;
    };
    return { memory, take };
  };

  test("have series of their own, whatever they call themselves", () => {
    const { take } = reader();
    expect(take("uid 1", 10, 100)).toBe(10);
    // Far ahead in the same series, by another.
    expect(take("uid 2", 1, 900)).toBe(11);
    expect(take("uid 1", 15, 200)).toBe(16);
  });

  test("go on from the last point of before they were told apart, once", () => {
    const { memory, take } = reader();
    expect(take("", 10, 100)).toBe(10);
    const again = reader(new ReceiverMemory("r", memory.takeChanges()));
    expect(again.take("uid 1", 12, 200)).toBe(2);
    expect(again.take("uid 1", 13, 300)).toBe(3);
  });

  test("have spans of their own; one counted before they were told apart is a repeat to all", () => {
    const tokens = message(field(1, "gen_ai.usage.output_tokens"), field(2, field(3, 7)));
    const span = message(field(1, "t".repeat(16)), field(2, "s".repeat(8)), field(9, tokens));
    const bytes = field(1, field(2, field(2, span)));
    const totals = new UsageTotals(info, 0, "e");
    const spans = new RecordsReader("traces", {});
    const take = (caller: string): number => {
      spans.take(bytes, totals, () => true, caller);
      return totals.sample(0, "gateway").readings[0]?.tokens.output ?? 0;
    };
    expect([take("uid 1"), take("uid 1"), take("uid 2"), take("uid 2")]).toEqual([7, 7, 14, 14]);
    expect([take(""), take("uid 3")]).toEqual([21, 21]);
  });

  test("leave room for each other: of the series one has three quarters", () => {
    const table = new SeriesTable(0, 4);
    const of = (caller: string, key: string) => table.series(key, "output", {}, undefined, 1, { caller });
    for (const key of ["a", "b", "c"]) expect(of("uid 1", key)).not.toBe("full");
    expect([of("uid 1", "d"), of("uid 2", "e") === "full"]).toEqual(["full", false]);
  });

  test("leave each other messages: all connections of one have six rates of eight", () => {
    const rates = new PeerRates(10, { now: () => 0 });
    let taken = 0;
    for (let sent = 0; sent < 200; sent++) if (rates.take(`connection ${sent % 20}`, "uid 1") === 0) taken++;
    expect(taken).toBe(60);
    expect(rates.take("connection", "uid 2")).toBe(0);
  });
});
