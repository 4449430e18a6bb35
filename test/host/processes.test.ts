import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { ProcessFacts } from "../../agent/correlate/placement.ts";
import { CommandLines, portOfCommand } from "../../agent/host/command-lines.ts";
import { cgroupOf, homeOf, ProcessReader } from "../../agent/host/processes.ts";
import { NamespaceSockets } from "../../agent/host/sockets.ts";

const closing: (() => unknown)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** A proc folder with one entry per process. */
function fakeProc(processes: Readonly<Record<number, Readonly<Record<string, string>>>>): string {
  const proc = mkdtempSync(join(tmpdir(), "tokenwatt-proc-"));
  closing.push(() => rmSync(proc, { recursive: true }));
  for (const [pid, files] of Object.entries(processes)) {
    for (const folder of ["net", "fd", "ns"]) mkdirSync(join(proc, pid, folder), { recursive: true });
    for (const [name, content] of Object.entries(files)) {
      if (content.startsWith("-> ")) symlinkSync(content.slice(3), join(proc, pid, name));
      else writeFileSync(join(proc, pid, name), content);
    }
  }
  return proc;
}

const status = (name: string, parent: number, uid = 1000): string =>
  `Name:\t${name}\nPPid:\t${parent}\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\n`;
const tcp = (...rows: string[]): string => `  sl  local_address rem_address   st\n${rows.join("\n")}\n`;
const row = (address: string, state: string, uid: number, inode: number): string =>
  `   0: ${address} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000  ${uid}        0 ${inode} 1 0 100 0 0 10 0`;

const CONTAINER = "a".repeat(64);

describe("ProcessReader", () => {
  test("reads identity, home, parents, --port and sockets of a GPU process and its parents", () => {
    const proc = fakeProc({
      100: {
        status: status("vllm", 1),
        cmdline: "vllm\0serve\0m\0--port\x008000\0",
        cgroup: `0::/system.slice/docker-${CONTAINER}.scope\n`,
        "net/tcp": tcp(row("00000000:1F40", "0A", 1000, 77), row("0100007F:1F41", "01", 1000, 78)),
        "fd/3": "-> socket:[77]",
        "ns/net": "-> net:[4026531840]",
      },
      200: {
        status: status("VLLM::EngineCore", 100),
        cmdline: "VLLM::EngineCore_DP1\0",
        cgroup: `0::/system.slice/docker-${CONTAINER}.scope\n`,
        "ns/net": "-> net:[4026531840]",
      },
      300: { status: status("other", 1), cmdline: "other\0--port=9000\0" },
    });
    const facts: readonly ProcessFacts[] = new ProcessReader(proc).read({ pids: [200, 999], ports: [9000] });
    expect(facts.map((fact) => fact.pid).sort()).toEqual([100, 200, 300]);
    const home = { cgroup: `/system.slice/docker-${CONTAINER}.scope`, container: CONTAINER };
    expect(facts.find((fact) => fact.pid === 200)).toEqual({
      pid: 200,
      name: "VLLM::EngineCore",
      title: "VLLM::EngineCore_DP1",
      uid: 1000,
      parents: [100],
      ...home,
    });
    expect(facts.find((fact) => fact.pid === 100)).toEqual({
      pid: 100,
      name: "vllm",
      uid: 1000,
      commandPort: 8000,
      servingPorts: [8000],
      listening: [{ port: 8000, uid: 1000, inode: "77", address: "any", here: false }],
      ownedPorts: [8000],
      ...home,
    });
    expect(facts.find((fact) => fact.pid === 300)).toMatchObject({ commandPort: 9000 });
  });

  test("sees this very process and a port it listens on", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closing.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    const own = new ProcessReader().read({ pids: [process.pid] }).find((fact) => fact.pid === process.pid);
    expect(own?.listening?.some((socket) => socket.port === port)).toBe(true);
    expect(own?.ownedPorts).toContain(port);
    const loopback = new NamespaceSockets("/proc").of("self")?.find((socket) => socket.port === port);
    expect(loopback?.address).toBe("loopback");
  });

  test("leaves out processes that are gone", async () => {
    const child = spawn(process.execPath, ["-e", "0"]);
    await new Promise((resolve) => child.on("exit", resolve));
    expect(new ProcessReader().read({ pids: [child.pid as number] })).toEqual([]);
  });
});

test("looks rarely at processes without a command line, and at all others every time", () => {
  const files = { 2: { cmdline: "" }, 10: { cmdline: "bash\0" } };
  const proc = fakeProc(files);
  const lines = new CommandLines(proc);
  const ports = new Set([8000]);
  expect(lines.startedWith(ports)).toEqual([]);
  for (const pid of [2, 10, 11]) {
    mkdirSync(join(proc, String(pid)), { recursive: true });
    writeFileSync(join(proc, String(pid), "cmdline"), "vllm\0--port=8000\0");
  }
  expect(lines.startedWith(ports).sort((a, b) => a - b)).toEqual([10, 11]);
  // A number that was used again is found out, however it is.
  const found = Array.from({ length: 10 }, () => lines.startedWith(ports).length);
  expect(found).toContain(3);
});

describe("homeOf()", () => {
  const POD = "0a1b2c3d-1111-2222-3333-444455556666";
  test.each([
    ["/system.slice/vllm.service", { unit: "vllm.service" }],
    ["/user.slice/user-1000.slice/user@1000.service/app.slice/sglang.service", { unit: "sglang.service" }],
    [`/docker/${CONTAINER}`, { container: CONTAINER }],
    [
      `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${POD.replaceAll("-", "_")}.slice/cri-containerd-${CONTAINER}.scope`,
      { container: CONTAINER, pod: POD },
    ],
    [`/kubepods/besteffort/pod${POD}/${CONTAINER}`, { container: CONTAINER, pod: POD }],
    [
      `/kubepods.slice/kubepods-pod${POD.replaceAll("-", "_")}.slice/crio-${CONTAINER}.scope`,
      { container: CONTAINER, pod: POD },
    ],
    ["/", {}],
  ])("reads %s", (path, home) => {
    expect(homeOf(path)).toEqual({ cgroup: path, ...home });
  });
});

test("cgroupOf() reads unified, hybrid and version 1 hosts", () => {
  expect(cgroupOf("0::/system.slice/a.service\n")).toBe("/system.slice/a.service");
  expect(cgroupOf("12:pids:/docker/x\n1:name=systemd:/docker/x\n0::/\n")).toBe("/docker/x");
  expect(cgroupOf("4:memory:/a\n3:cpu,cpuacct:/a/b\n")).toBe("/a/b");
  expect(cgroupOf("")).toBeUndefined();
});

test.each([
  ["python\0-m\0x\0--port=30000\0", 30000],
  ["vllm\0--port\x008000\0", 8000],
  ["x\0--portal\x008000\0", undefined],
  ["x\0--port\0auto\0", undefined],
])("portOfCommand() reads %j", (commandLine, port) => {
  expect(portOfCommand(commandLine)).toBe(port);
});
