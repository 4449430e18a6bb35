// Which ports of a host are asked: real sockets on loopback, a made-up /proc that names them.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test, vi } from "vitest";
import { Placement } from "../../agent/correlate/placement.ts";
import { usualPorts } from "../../agent/discovery/ask.ts";
import { HostWatch } from "../../agent/discovery/host.ts";
import { candidatePorts } from "../../agent/discovery/host-ports.ts";
import { keepsAwake, servingPortsOf } from "../../agent/host/command-lines.ts";
import type { ProcessReading } from "../../agent/host/processes.ts";
import type { GpuSample, ServerInfo, TokenSample } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import type { Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { serverTypes } from "../../agent/servers/registry.ts";
import type { ServerSource, ServerType } from "../../agent/source.ts";
import { fakePeer } from "../fakes/grpc-peer.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
const recording = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../fixtures/servers/${name}.prom`, import.meta.url)), "utf8");
const VLLM = recording("vllm-0.16-two-engines");
const SGLANG = recording("sglang-0.5.23-two-tenants");

/** A server that answers `/metrics` by the given function; counts the requests by path. */
async function pageServer(
  answer: (url: string) => [number, string],
  wanted = 0,
): Promise<{ port: number; asked: string[]; server: Server; stop(): Promise<unknown> }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    const [status, body] = answer(request.url ?? "");
    response.writeHead(status).end(body);
  });
  await new Promise<void>((resolve, reject) =>
    server.once("error", reject).listen(wanted, "127.0.0.1", resolve),
  );
  const stop = (): Promise<unknown> => {
    const stopped = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    return stopped;
  };
  closing.push(stop);
  return { port: (server.address() as AddressInfo).port, asked, server, stop };
}
const page = (url: string): [number, string] => (url === "/metrics" ? [200, VLLM] : [404, ""]);

interface FakeProcess {
  readonly uid?: number;
  readonly parent?: number;
  readonly words: readonly string[];
  readonly name?: string;
  readonly cgroup?: string;
  /** Listening sockets of its network namespace: port and inode. */
  readonly sockets?: readonly (readonly [number, number])[];
}

/** A /proc of the given processes; `self` has the sockets of our own namespace. */
function fakeProc(processes: Readonly<Record<string, FakeProcess>>): string {
  const proc = mkdtempSync(join(tmpdir(), "tokenwatt-proc-"));
  closing.push(() => rmSync(proc, { recursive: true }));
  writeProcesses(proc, processes);
  return proc;
}

function writeProcesses(proc: string, processes: Readonly<Record<string, FakeProcess>>): void {
  const table = (uid: number, sockets: FakeProcess["sockets"] = []): string =>
    [
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
      ...sockets.map(
        ([port, inode]) =>
          `   0: 0100007F:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A 00000000:00000000 00:00000000 00000000  ${uid}        0 ${inode} 1 0 100 0 0 10 0`,
      ),
    ].join("\n");
  for (const [pid, { cgroup, name, parent, sockets, uid = 1000, words }] of Object.entries(processes)) {
    const folder = join(proc, pid);
    mkdirSync(join(folder, "net"), { recursive: true });
    writeFileSync(
      join(folder, "status"),
      `Name:\t${name ?? "python3"}\nPPid:\t${parent ?? 1}\nUid:\t${uid}\t${uid}\n`,
    );
    writeFileSync(join(folder, "cmdline"), words.map((word) => `${word}\0`).join(""));
    writeFileSync(join(folder, "cgroup"), `0::${cgroup ?? "/system.slice/vllm.service"}\n`);
    writeFileSync(join(folder, "net/tcp"), table(uid, sockets));
  }
}

function watch(proc: string, pids: readonly number[]) {
  const clock = virtualClock(0n);
  const servers = new Map<string, ServerInfo>();
  const lastGpuSamples = new Map<string, GpuSample>([
    ["GPU-1", { gpu: "GPU-1", at: 0, processes: pids.map((pid) => ({ pid, type: "compute" as const })) }],
  ]);
  let facts: readonly ProcessReading[] = [];
  const opened: ServerSource[] = [];
  const lastTokenSamples = new Map<string, TokenSample>();
  const told: unknown[] = [];
  const log: Log = { ...silentLog, info: (event, facts = {}) => void told.push({ event, ...facts }) };
  const pipeline = {
    intake: { servers, lastGpuSamples, lastTokenSamples },
    addServer: (source: ServerSource) => {
      opened.push(source);
      servers.set(source.info.id, source.info);
    },
    removeServer: async (source: ServerSource) => {
      servers.delete(source.info.id);
      await source.close();
    },
  };
  closing.push(() => Promise.all(opened.map((source) => source.close())));
  const context = { clock, log, signal: new AbortController().signal };
  const correlator = {
    setProcessFacts: (readings: readonly ProcessReading[]) => {
      facts = readings;
    },
  };
  const common = { clock, log, context, pipeline, correlator, discover: true, scrapeMs: 5000 };
  const watched = new HostWatch({ ...common, proc });
  const ports = () => watched.status().ports;
  return {
    watched,
    servers,
    clock,
    ports,
    opened,
    told,
    lastGpuSamples,
    lastTokenSamples,
    facts: () => facts,
  };
}

describe("HostWatch", () => {
  test("finds a server by --port of a GPU process, places it without a capability, and lets it go with the process", async () => {
    const { port } = await pageServer(page);
    const words = ["python3", "-m", "vllm", "--port", String(port)];
    const proc = fakeProc({
      self: { words: [], sockets: [[port, 77]] },
      10: { words, parent: 5, sockets: [[port, 77]] },
      5: { words },
    });
    const { watched, servers, ports, facts } = watch(proc, [10]);
    await watched.look();
    expect([...servers.keys()]).toEqual([`vllm:${port}`]);
    expect(ports()[port]).toMatchObject({
      state: "found",
      why: expect.stringContaining("was started with it"),
    });
    const placement = new Placement();
    placement.setServers([...servers.values()], new Map());
    placement.setFacts(facts());
    expect(placement.place("GPU-1", undefined, [10])).toMatchObject([
      { server: [...servers.keys()][0], rung: 3 },
    ]);
    const gone = watch(proc, []);
    await gone.watched.look();
    expect(gone.servers.size).toBe(0);
  });

  test("keeps a server while a reading does not say which processes hold the GPU", async () => {
    const { port } = await pageServer(page);
    const words = ["python3", "-m", "vllm", "--port", String(port)];
    const proc = fakeProc({
      self: { words: [], sockets: [[port, 77]] },
      10: { words, sockets: [[port, 77]] },
    });
    const { watched, servers, lastGpuSamples } = watch(proc, [10]);
    await watched.look();
    expect(servers.size).toBe(1);
    const read = async (seconds: number, processes?: GpuSample["processes"]): Promise<number> => {
      const sample = { gpu: "GPU-1", at: seconds * 1e9 };
      lastGpuSamples.set("GPU-1", processes === undefined ? sample : { ...sample, processes });
      await watched.look();
      return servers.size;
    };
    expect(await read(1)).toBe(1);
    expect(await read(59)).toBe(1);
    expect(await read(60, [])).toBe(0);
    expect(await read(61, [{ pid: 10, type: "compute" }])).toBe(1);
    expect(await read(122)).toBe(0);
  });

  test("asks a port that is not open yet as soon as it is, and one that says nothing rarely", async () => {
    const { port: silent, asked } = await pageServer(() => [404, ""]);
    const processes = (open: boolean) => ({
      self: { words: [], sockets: open ? ([[silent, 78]] as const) : [] },
      10: { words: ["x", `--port=${silent}`], sockets: [] },
    });
    const proc = fakeProc(processes(false));
    const { watched, clock, ports } = watch(proc, [10]);
    await watched.look();
    expect(ports()[silent]).toMatchObject({ state: "waiting" });
    expect(asked).toEqual([]);
    const open = readFileSync(join(fakeProc(processes(true)), "self/net/tcp"));
    writeFileSync(join(proc, "self/net/tcp"), open);
    const lookAt = async (seconds: number): Promise<number> => {
      await clock.advance(seconds * 1e9);
      await watched.look();
      return asked.length;
    };
    const first = await lookAt(31);
    expect(ports()[silent]?.state).toBe("nothing");
    expect(first).toBeGreaterThan(0);
    const second = await lookAt(62);
    expect(second).toBeGreaterThan(first);
    const third = await lookAt(93);
    expect(third).toBeGreaterThan(second);
    expect(await lookAt(124)).toBe(third);
    const fourth = await lookAt(155);
    expect(fourth).toBeGreaterThan(third);
    // Another listener: whatever came of the last one says nothing about it.
    writeFileSync(join(proc, "self/net/tcp"), open.toString().replace(" 78 ", " 79 "));
    expect(await lookAt(186)).toBeGreaterThan(fourth);
  }, 20_000);

  test("never asks a llama.cpp router for a model, nor a server whose model sleeps when nobody asks", async () => {
    const router = await pageServer((url) =>
      url.startsWith("/metrics?model=")
        ? [200, "llamacpp:tokens_predicted_total 1\n"]
        : [400, '{"error":{}}'],
    );
    const child = await pageServer(() => [200, "llamacpp:tokens_predicted_total 1\n"]);
    const proc = fakeProc({
      self: {
        words: [],
        sockets: [
          [router.port, 1],
          [child.port, 2],
        ],
      },
      20: { name: "llama-server", words: ["llama-server", "--port", String(router.port)] },
      21: {
        name: "llama-server",
        parent: 20,
        words: ["llama-server", "-m", "x.gguf", "--port", String(child.port), "--sleep-idle-seconds", "60"],
      },
    });
    const { watched, servers, ports, clock } = watch(proc, [21]);
    await watched.look();
    await clock.advance(1200e9);
    await watched.look();
    expect(router.asked.length).toBeGreaterThan(0);
    expect(router.asked.filter((url) => url.includes("model"))).toEqual([]);
    expect(ports()[router.port]?.state).toBe("nothing");
    expect(child.asked).toEqual([]);
    expect(ports()[child.port]).toMatchObject({
      state: "refused",
      why: expect.stringContaining("keep its model"),
    });
    expect(servers.size).toBe(0);
  }, 20_000);

  test("says how many GPU processes it cannot see", async () => {
    const { watched } = watch(fakeProc({ self: { words: [] }, 10: { words: ["x"] } }), [10, 11, 12]);
    await watched.look();
    expect(watched.status().gpu_processes).toEqual({ count: 3, visible: 1, names: ["python3"] });
  });

  test("connects to loopback and nowhere else", async () => {
    const connected = new Set<string>();
    const original = Socket.prototype.connect;
    const connect = vi.spyOn(Socket.prototype, "connect").mockImplementation(function (
      this: Socket,
      ...args
    ) {
      const [first] = args.flat() as { host?: string; hostname?: string }[];
      connected.add(String(first?.host ?? first?.hostname));
      return original.apply(this, args as never);
    });
    closing.push(() => connect.mockRestore());
    const elsewhere = "http://192.0.2.1:8000/metrics";
    const server = createServer((_, response) => response.writeHead(302, { location: elsewhere }).end());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closing.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    const proc = fakeProc({
      self: { words: [], sockets: [[port, 77]] },
      10: { words: ["x", "--port", String(port), "--host", "192.0.2.1"] },
    });
    const { watched, ports } = watch(proc, [10]);
    await watched.look();
    expect(ports()[port]).toMatchObject({ state: "nothing", why: expect.stringContaining("answers 302") });
    expect([...connected]).toEqual(["127.0.0.1"]);
  });

  test("reads nothing twice: a port some server is read at is not asked", async () => {
    const { port, asked } = await pageServer(page);
    const proc = fakeProc({
      self: { words: [], sockets: [[port, 77]] },
      10: { words: ["x", "--port", String(port)] },
    });
    const { watched, servers, ports } = watch(proc, [10]);
    const info = { id: "mine", type: "vllm", family: "engine", pollMs: 1000 } as const;
    servers.set("mine", { ...info, address: `gpu-host-1:${port}`, port });
    await watched.look();
    expect(asked).toEqual([]);
    expect(ports()[port]).toEqual({ state: "known", why: "read already as mine", server: "mine" });
    // Found while nobody reads it, and let go when somebody does.
    servers.clear();
    await watched.look();
    expect([...servers.keys()]).toEqual([`vllm:${port}`]);
    servers.set("mine", { ...info, address: `127.0.0.1:${port}`, port });
    await watched.look();
    expect([...servers.keys()]).toEqual(["mine"]);
  });

  test("keeps a source whose place the servers behind it have taken", async () => {
    const { port } = await pageServer(page);
    const proc = fakeProc({
      self: { words: [], sockets: [[port, 77]] },
      10: { words: ["x", "--port", String(port)] },
    });
    const { watched, servers, ports } = watch(proc, [10]);
    await watched.look();
    const [[id, info]] = [...servers] as [[string, ServerInfo]];
    servers.clear();
    for (const one of ["a", "b"]) servers.set(`${id}/${one}`, { ...info, id: `${id}/${one}` });
    await watched.look();
    expect(ports()[port]).toMatchObject({ state: "found", server: id });
  });
});

describe("HostWatch, when a found server's port is listened on anew", () => {
  /** A GPU process with a vLLM that was found; `listen` starts another server on its port, `look` is the next look. */
  async function replaceable() {
    const engine = await pageServer(page);
    const { port } = engine;
    const processes = (inode: number | undefined, words: readonly string[] = []) => ({
      self: { words: [], sockets: inode === undefined ? [] : ([[port, inode]] as const) },
      10: { words: ["engine", "--port", String(port), ...words] },
    });
    const proc = fakeProc(processes(77));
    const host = watch(proc, [10]);
    await host.watched.look();
    const stopped = engine.stop();
    let inode = 77;
    return {
      ...host,
      port,
      vllm: `vllm:${port}`,
      sglang: `sglang:${port}`,
      listen: async (answer: (url: string) => [number, string], words: readonly string[] = []) => {
        await stopped;
        writeProcesses(proc, processes(++inode, words));
        return pageServer(answer, port);
      },
      stop: async () => {
        await stopped;
        writeProcesses(proc, processes(undefined));
      },
      relisten: (words: readonly string[] = []) => writeProcesses(proc, processes(++inode, words)),
      look: async () => {
        await host.clock.advance(host.clock.now() + 31e9);
        await host.watched.look();
        return [...host.servers.keys()];
      },
      outcome: () => host.ports()[port],
    };
  }

  test("keeps the source of a server that restarted, through the time it loads, and asks no more than that", async () => {
    const { listen, look, opened, outcome, stop, vllm } = await replaceable();
    const found = outcome();
    await stop();
    expect(await look()).toEqual([vllm]);
    const again = await listen(page);
    expect(await look()).toEqual([vllm]);
    expect(opened).toHaveLength(1);
    expect(outcome()).toEqual(found);
    expect(again.asked).toEqual(["/metrics"]);
    await look();
    expect(again.asked).toEqual(["/metrics"]);
  });

  test("reads another type in the stead of the one before, and says from what to what", async () => {
    const { listen, look, outcome, sglang, told, vllm } = await replaceable();
    await listen((url) => (url === "/metrics" ? [200, SGLANG] : [404, ""]));
    expect(await look()).toEqual([sglang]);
    expect(outcome()).toMatchObject({ state: "found", server: sglang });
    expect(told).toMatchObject([
      { event: "server found", source: `server:${vllm}` },
      {
        event: "server replaced",
        source: `server:${sglang}`,
        type: "sglang",
        before: `server:${vllm}`,
        beforeType: "vllm",
      },
    ]);
  });

  test("reads the same type anew where it answers at another path", async () => {
    const { listen, look, port } = await replaceable();
    await listen((url) => (url === "/prometheus/metrics" ? [200, VLLM] : [404, ""]));
    expect(await look()).toEqual([`vllm:${port}/prometheus/metrics`]);
  });

  test("keeps the source until something answers, and asks ever more rarely", async () => {
    const { listen, look, outcome, sglang, vllm } = await replaceable();
    let status = 503;
    const { asked } = await listen((url) => (url === "/metrics" ? [status, SGLANG] : [404, ""]));
    const counts: number[] = [];
    for (let time = 0; time < 6; time++) {
      expect(await look()).toEqual([vllm]);
      counts.push(asked.filter((url) => url === "/metrics").length);
    }
    expect(counts).toEqual([1, 2, 3, 3, 4, 4]);
    expect(outcome()).toMatchObject({
      state: "found",
      server: vllm,
      why: expect.stringMatching(/was started with it; restarted or replaced since, .*answers 503/),
    });
    status = 200;
    for (let time = 0; time < 4; time++) await look();
    expect(await look()).toEqual([sglang]);
  }, 20_000);

  test("lets a server go whose port is now of one that must not be asked", async () => {
    const { look, outcome, relisten } = await replaceable();
    relisten(["--sleep-idle-seconds", "60"]);
    expect(await look()).toEqual([]);
    expect(outcome()).toMatchObject({ state: "refused" });
  });

  test("believes an estimate in the place of a page when it is asked again, and not that the old server gives it", async () => {
    const { look, outcome, port, relisten, stop, vllm } = await replaceable();
    await stop();
    const service = "vllm.grpc.engine.VllmEngine";
    const peer = await fakePeer({ [`/${service}/GetLoads`]: Buffer.alloc(0) }, [service], {
      listen: `127.0.0.1:${port}`,
    });
    closing.push(peer.close);
    relisten();
    expect(await look()).toEqual([vllm]);
    expect(outcome()).toMatchObject({ server: vllm, why: expect.stringContaining("only estimates") });
    expect(await look()).toEqual([`get-loads:${port}`]);
  });

  test("steps back for a configured server that turns out to be the new one", async () => {
    const { lastTokenSamples, listen, look, outcome, servers, sglang } = await replaceable();
    await listen((url) => (url === "/metrics" ? [200, SGLANG] : [404, ""]));
    const info = { type: "sglang", family: "engine", address: "http://chat", pollMs: 1000 } as const;
    const other = await pageServer(() => [200, SGLANG]);
    const same = serverTypes.find(({ name }) => name === "sglang") as ServerType;
    const source = same.open(same.config.parse({ endpoint: `127.0.0.1:${other.port}` }), {
      clock: virtualClock(0n),
      log: silentLog,
      signal: new AbortController().signal,
    });
    closing.push(() => source.close());
    if (source.kind === "pull") lastTokenSamples.set("chat", await source.poll());
    servers.set("chat", { ...info, id: "chat" });
    expect(await look()).toEqual(["chat"]);
    expect(outcome()).toMatchObject({ state: "known", server: "chat" });
    servers.delete("chat");
    await look();
    expect(await look()).toEqual([sglang]);
  });

  test("takes no neighbour's page for that of a server that still loads", async () => {
    const two = async (): Promise<readonly [Awaited<ReturnType<typeof pageServer>>, number]> => {
      const one = await pageServer(page);
      return pageServer(page, one.port + 1).then(() => [one, one.port] as const, two);
    };
    const [one, port] = await two();
    const processes = (inode: number) => ({
      self: {
        words: [],
        sockets: [
          [port, inode],
          [port + 1, 90],
        ] as const,
      },
      10: { words: ["engine", "--port", String(port)] },
      11: { words: ["engine", "--port", String(port + 1)] },
    });
    const proc = fakeProc(processes(77));
    const { clock, opened, servers, watched } = watch(proc, [10, 11]);
    await watched.look();
    expect(servers.size).toBe(2);
    await one.stop();
    await pageServer(() => [503, ""], port);
    writeProcesses(proc, processes(78));
    await clock.advance(31e9);
    await watched.look();
    expect(opened).toHaveLength(2);
    expect(servers.size).toBe(2);
  });
});

describe("candidatePorts()", () => {
  const socket = (port: number, uid = 1000, inode = String(port), address: "any" | "other" = "any") => ({
    port,
    uid,
    inode,
    address,
    here: inode === String(port),
  });
  const facts = (
    readings: readonly ProcessReading[],
    here = [8000, 8080, 9001, 5432, 22, 40_001].map((port) => socket(port)),
  ) => ({
    readings,
    pids: [10],
    here,
    usual: [8000, 30000],
    ephemeral: [32_768, 60_999] as const,
  });
  const asked = (readings: readonly ProcessReading[], here?: ReturnType<typeof socket>[]) =>
    [...candidatePorts(facts(readings, here)).values()]
      .filter(({ not }) => not === undefined)
      .map(({ port }) => port);

  test("asks only ports a GPU process or its parents were started with or hold", () => {
    const readings = [
      { pid: 10, parents: [5, 1], servingPorts: [8000], ownedPorts: [9001, 40_001] },
      { pid: 5, parents: [1], servingPorts: [8080] },
      { pid: 99, servingPorts: [5432], ownedPorts: [5432] },
      { pid: 1, ownedPorts: [22] },
    ];
    expect(asked(readings).sort()).toEqual([8000, 8080, 9001]);
  });

  test("asks what the user of a GPU process listens on where engines listen, which needs no capability", () => {
    const own = [socket(8000, 1000), socket(30000, 0), socket(8080, 1000)];
    const readings = [{ pid: 10, uid: 1000, listening: own }];
    expect(asked(readings, own)).toEqual([8000]);
    // The same port in another network namespace is somebody else's.
    const elsewhere = own.map((one) => ({ ...one, here: false }));
    expect(asked([{ pid: 10, uid: 1000, listening: elsewhere }], own)).toEqual([]);
  });

  test("leaves a login's shell alone: a parent of another cgroup gives only what it was started with", () => {
    const readings = [
      { pid: 10, parents: [5, 4], cgroup: "/user.slice/session-1.scope" },
      { pid: 5, cgroup: "/user.slice/session-1.scope", ownedPorts: [9001] },
      { pid: 4, cgroup: "/system.slice/ssh.service", ownedPorts: [22] },
    ];
    expect(asked(readings)).toEqual([9001]);
  });

  test("tells what loopback does not reach, with why", () => {
    const listening = [socket(7000, 1000, "in-container")];
    const state = (reading: Partial<ProcessReading>, here = [socket(7001, 1000, "x", "other")]) =>
      candidatePorts(facts([{ pid: 10, servingPorts: [7000, 7001], listening, ...reading }], here));
    expect(state({}).get(7000)?.not).toMatchObject({
      state: "refused",
      why: expect.stringContaining("namespace"),
    });
    expect(state({ pod: "u1" }).get(7000)?.not).toMatchObject({ state: "off" });
    expect(state({}).get(7001)?.not).toMatchObject({
      state: "refused",
      why: expect.stringContaining("another address"),
    });
  });

  test("asks nothing where no process holds a GPU", () => {
    expect(candidatePorts(facts([{ pid: 99, servingPorts: [5432] }])).size).toBe(0);
  });
});

describe("the words of a command line", () => {
  test("servingPortsOf() takes ports for serving, not those of masters", () => {
    const line =
      "tritonserver\0--http-port=8000\0--metrics-port\x008002\0--master-port\x0029500\0--port\x008001\0";
    expect(servingPortsOf(line)).toEqual([8000, 8002, 8001]);
  });

  test.each([
    [["--sleep-idle-seconds", "60"], true],
    [["--sleep-idle-seconds=60"], true],
    [["--sleep-idle-seconds", "-1"], false],
    [["--port", "60"], false],
  ])("keepsAwake(%j) is %s", (words, expected) => {
    expect(keepsAwake(words)).toBe(expected);
  });
});

test("usualPorts() are those of engines, no gateway's and no receiver's", () => {
  const ports = usualPorts();
  for (const port of [8000, 30000, 3000, 8080, 8002, 23333]) expect(ports).toContain(port);
  for (const port of [4317, 9090, 4000, 22]) expect(ports).not.toContain(port);
});
