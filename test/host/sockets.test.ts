// Which sockets listen, out of the kernel's tables: whatever else is in them, and without asking for it.
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import type { AddressInfo, Socket } from "node:net";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { ListeningSocket } from "../../agent/host/sockets.ts";
import { HeldSockets, NamespaceSockets } from "../../agent/host/sockets.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-sockets-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Row {
  readonly state: string;
  readonly port: number;
  readonly inode: number;
}

const HEAD =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

/** A table as the kernel writes it, 150 characters a row. */
function table(rows: readonly Row[], numberOf: (index: number) => number = (index) => index): string {
  const lines = rows.map(({ inode, port, state }, index) => {
    const number = String(numberOf(index)).padStart(4);
    const hex = port.toString(16).toUpperCase().padStart(4, "0");
    return `${number}: 0100007F:${hex} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000  1000        0 ${inode} 1 0000000000000000 100 0 0 10 0`;
  });
  return [HEAD, ...lines].map((line) => `${line.padEnd(149)}\n`).join("");
}

const rowOf = (...states: string[]): fc.Arbitrary<Row> =>
  fc.record({
    state: fc.constantFrom(...states),
    port: fc.integer({ min: 1, max: 65_535 }),
    inode: fc.nat({ max: 99_999_999 }),
  });
const listening = (rows: readonly Row[]): readonly (readonly [number, string])[] =>
  rows.filter(({ state }) => state === "0A").map(({ inode, port }) => [port, String(inode)]);

/** What is found in a process's folder with these files. */
function found(files: Readonly<Record<string, string>>): readonly (readonly [number, string])[] | undefined {
  const net = join(folder, "self/net");
  rmSync(net, { recursive: true, force: true });
  mkdirSync(net, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(net, name), content);
  return new NamespaceSockets(folder).of("self")?.map(({ inode, port }) => [port, inode]);
}

test("finds all that listen, with half-open ones between them and connections behind", () => {
  const first = fc.array(rowOf("0A", "03"), { maxLength: 40 });
  const rest = fc.array(rowOf("01", "03", "06", "08"), { maxLength: 40 });
  fc.assert(
    fc.property(first, rest, (listeners, connections) => {
      const rows = [...listeners, ...connections];
      expect(found({ tcp: table(rows), tcp6: table(rows) })).toEqual([
        ...listening(rows),
        ...listening(rows),
      ]);
    }),
    { numRuns: 50 },
  );
});

test("finds all that listen in a table of another order, which is numbered by age", () => {
  const rows = fc.array(rowOf("0A", "01", "06"), { maxLength: 40 });
  fc.assert(
    fc.property(rows, fc.integer({ min: 1, max: 500 }), (all, first) => {
      expect(found({ tcp: table(all, (index) => first + 3 * index) })).toEqual(listening(all));
    }),
    { numRuns: 50 },
  );
});

test("reads of the kernel's table what listens, and not the connections of the host", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const sockets: Socket[] = [];
  server.on("connection", (socket) => sockets.push(socket));
  for (let count = 0; count < 100; count++) {
    const socket = connect(port, "127.0.0.1");
    sockets.push(socket);
    await once(socket, "connect");
  }
  const bytesRead = (): number =>
    Number(/^rchar: (\d+)/.exec(readFileSync("/proc/thread-self/io", "latin1"))?.[1]);
  const before = bytesRead();
  const own = bytesRead() - before;
  const start = bytesRead();
  const all = new NamespaceSockets("/proc").of("self") ?? [];
  const read = bytesRead() - start - own;
  expect(all.some((socket) => socket.port === port)).toBe(true);
  // 180 characters a row; two chunks and two counts may hold other things.
  expect(read).toBeLessThan(all.length * 180 + 6000);
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

test("does not look into a table that nothing is in", () => {
  const tcp = table([{ state: "0A", port: 80, inode: 7 }]);
  const sockstat = "sockets: used 9\nTCP: inuse 2 orphan 0 tw 0\nUDP: inuse 0\n";
  expect(found({ tcp, sockstat, tcp6: tcp, sockstat6: "TCP6: inuse 0\nUDP6: inuse 1\n" })).toEqual([
    [80, "7"],
  ]);
  expect(found({})).toBeUndefined();
});

test("a namespace is read once, whoever of it is asked for", () => {
  const proc = mkdtempSync(join(folder, "proc-"));
  mkdirSync(join(proc, "self/net"), { recursive: true });
  writeFileSync(join(proc, "self/net/tcp"), table([{ state: "0A", port: 80, inode: 7 }]));
  const sockets = new NamespaceSockets(proc);
  const first = sockets.of("self");
  expect(first).toMatchObject([{ port: 80, inode: "7" }]);
  writeFileSync(join(proc, "self/net/tcp"), table([]));
  expect(sockets.of("self")).toBe(first);
  expect(sockets.of(1)).toBeUndefined();
  const real = new NamespaceSockets("/proc");
  expect(real.of(process.pid)).toBe(real.of("self"));
});

describe("HeldSockets", () => {
  const PROCESSES = ["a", "b", "c"];

  /** Processes that listen and stop, as the kernel shows them, and what they hold by the model. */
  function hosts() {
    const proc = mkdtempSync(join(folder, "held-"));
    for (const name of PROCESSES) mkdirSync(join(proc, name, "fd"), { recursive: true });
    const held = new HeldSockets();
    const holders = new Map<string, Set<string>>();
    const links = new Map<string, string>();
    let next = 0;
    const listening = (): ListeningSocket[] =>
      [...holders.keys()].map((inode) => ({ inode, port: Number(inode), uid: 0, address: "any" }));
    const take = (name: string, inode: string): void => {
      const path = join(proc, name, "fd", String(++next));
      symlinkSync(`socket:[${inode}]`, path);
      links.set(`${name} ${inode}`, path);
      holders.set(inode, (holders.get(inode) ?? new Set()).add(name));
    };
    return {
      take,
      listen: (name: string): void => take(name, String(1000 + ++next)),
      close: (inode: string): void => {
        for (const name of holders.get(inode) ?? []) unlinkSync(links.get(`${name} ${inode}`) as string);
        holders.delete(inode);
      },
      inodes: () => [...holders.keys()],
      look: (asked = PROCESSES) => {
        held.begin();
        return asked.map((name) => [...(held.of(join(proc, name), listening()) ?? [])].sort());
      },
      truth: (asked = PROCESSES) =>
        asked.map((name) => [...holders].flatMap(([inode, by]) => (by.has(name) ? inode : [])).sort()),
    };
  }

  test("says who holds what listens, whoever begins and ends to listen between two looks", () => {
    const step = fc.record({ who: fc.constantFrom(...PROCESSES), ends: fc.nat(9), opens: fc.boolean() });
    fc.assert(
      fc.property(fc.array(fc.array(step, { maxLength: 3 }), { maxLength: 14 }), (looks) => {
        const { close, inodes, listen, look, truth } = hosts();
        for (const steps of looks) {
          for (const { ends, opens, who } of steps) {
            const inode = inodes()[ends];
            if (opens) listen(who);
            else if (inode !== undefined) close(inode);
          }
          expect(look().map((held) => held.filter((inode) => inodes().includes(inode)))).toEqual(truth());
        }
      }),
      { numRuns: 40 },
    );
  });

  test("asks for descriptors again where another socket listens, or whoever was not asked, or after ten looks", () => {
    const { inodes, listen, look, take, truth } = hosts();
    listen("a");
    const alone = truth();
    expect(look()).toEqual(alone);
    take("b", inodes()[0] as string);
    expect(look()).toEqual(alone);
    listen("c");
    expect(look()).toEqual(truth());
    take("c", inodes()[0] as string);
    expect(look(["a"])).toEqual(truth(["a"]));
    expect(look()).toEqual(truth());
    take("b", inodes()[1] as string);
    expect(look()).not.toEqual(truth());
    const found = Array.from({ length: 10 }, () => look());
    expect(found).toContainEqual(truth());
  });
});
