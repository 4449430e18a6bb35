// The doctor's verdicts on a made-up host (proc/, sys/, dev/) and on real loopback sockets.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { judgePoll } from "../../agent/cli/checks/backend.ts";
import type { CheckContext, Finding } from "../../agent/cli/checks/check.ts";
import { within, worst } from "../../agent/cli/checks/check.ts";
import { devicesCheck } from "../../agent/cli/checks/devices.ts";
import { driverCheck } from "../../agent/cli/checks/driver.ts";
import { judgeNode } from "../../agent/cli/checks/node.ts";
import { judgePort } from "../../agent/cli/checks/port.ts";
import { judgeSample } from "../../agent/cli/checks/reading.ts";
import { checks } from "../../agent/cli/checks/registry.ts";
import { judgeState } from "../../agent/cli/checks/state.ts";
import { formatFindings } from "../../agent/cli/doctor.ts";
import type { GpuInfo, ServerInfo, TokenSample } from "../../agent/model.ts";
import { systemClock, virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { runCommand } from "./capture-io.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-doctor-"));
afterAll(() => rmSync(folder, { recursive: true }));

let hosts = 0;
function host(files: Readonly<Record<string, string>>): CheckContext {
  const root = join(folder, `host-${hosts++}`);
  mkdirSync(root);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return { clock: systemClock(), log: silentLog, signal: new AbortController().signal, env: {}, root };
}

const VERSION =
  "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\nGCC version: 12\n";
const CARD = {
  "sys/bus/pci/devices/0000:1b:00.0/vendor": "0x10de\n",
  "sys/bus/pci/devices/0000:1b:00.0/class": "0x030200\n",
};

async function one(check: (typeof checks)[number], context: CheckContext): Promise<Finding> {
  const [finding] = await check.run(context);
  if (finding === undefined) throw new Error("no finding");
  return finding;
}

describe("tokenwatt doctor", () => {
  test("exits by the worst verdict and prints every finding as JSON", async () => {
    const flags = ["--json", "--only", "node", "config", "state", "--set", `stateDir=${folder}`];
    const fine = await runCommand(["doctor", ...flags]);
    expect(JSON.parse(fine.stdout)).toMatchObject({
      verdict: "ok",
      findings: [{ id: "node.version" }, { id: "config.valid" }, { id: "state.writable" }],
    });
    expect(fine.exitCode).toBe(0);
    const warned = await runCommand(["doctor", "--only", "server", "--json"]);
    expect(JSON.parse(warned.stdout)).toMatchObject({
      verdict: "warn",
      findings: [{ id: "server.reachable" }],
    });
    expect(warned.exitCode).toBe(1);
    const failed = await runCommand(["doctor", "--only", "config", "--set", "rates.gpuMs=x"]);
    expect(failed.stdout).toContain('Cannot read rates.gpuMs as a number: got "x"');
    expect(failed.exitCode).toBe(2);
  });

  test("says that the configuration is broken whatever was asked for", async () => {
    const { stdout, exitCode } = await runCommand([
      "doctor",
      "--only",
      "server",
      "--json",
      "--set",
      "rates.gpuMs=x",
    ]);
    expect(JSON.parse(stdout)).toMatchObject({ verdict: "fail", findings: [{ id: "config.valid" }] });
    expect(exitCode).toBe(2);
  });

  test("refuses an id no check has", async () => {
    const { stderr, exitCode } = await runCommand(["doctor", "--only", "gpus"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("gpu.backend");
  });

  test("ids are unique and of one form", () => {
    const ids = checks.flatMap((check) => check.ids);
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) expect(id).toMatch(/^[a-z]+\.[a-z]+$/);
  });

  test("deploy/docs/doctor.md explains every id", () => {
    const page = readFileSync(new URL("../../deploy/docs/doctor.md", import.meta.url), "utf8");
    const explained = [...page.matchAll(/^\| `([a-z]+\.[a-z]+)` \|/gm)].map((match) => match[1]);
    expect(explained).toEqual(checks.flatMap((check) => check.ids));
  });

  test("formatFindings() puts the remedy below what was seen", () => {
    const text = formatFindings([
      { id: "a.b", verdict: "ok", seen: "fine" },
      { id: "c.long", subject: "x", verdict: "fail", seen: "two\nlines", remedy: "do this" },
    ]);
    expect(text).toBe(
      "ok    a.b     fine\nfail  c.long  x: two\n              lines\n              -> do this\n\n1 ok, 0 warnings, 1 failure, 0 skipped",
    );
  });

  test("worst() ranks fail over warn over ok, skip counts for nothing", () => {
    const found = (...verdicts: Finding["verdict"][]): Finding[] =>
      verdicts.map((verdict) => ({ id: "a.b", verdict, seen: "" }));
    expect(worst(found("ok", "warn", "fail"))).toBe("fail");
    expect(worst(found("skip", "warn"))).toBe("warn");
    expect(worst(found("skip"))).toBe("ok");
  });

  test("within() gives up on what hangs", async () => {
    const clock = virtualClock(0n);
    const context = { clock, log: silentLog, signal: new AbortController().signal };
    const hung = within(context, 3000, "the driver", new Promise(() => {}));
    const refused = expect(hung).rejects.toThrow("the driver took longer than 3 s");
    await clock.advance(3e9);
    await refused;
  });
});

describe("gpu checks", () => {
  test("gpu.driver is skipped without a GPU, ok with a driver, failed for a GPU without one", async () => {
    expect(await one(driverCheck, host({}))).toMatchObject({ verdict: "skip" });
    const loaded = await one(driverCheck, host({ ...CARD, "proc/driver/nvidia/version": VERSION }));
    expect(loaded).toMatchObject({ verdict: "ok", facts: { version: "580.95.05" } });
    const bare = await one(driverCheck, host(CARD));
    expect(bare).toMatchObject({ verdict: "fail" });
    expect(bare.remedy).toContain("modprobe nvidia");
  });

  test("gpu.devices fails where the driver is loaded but no node is here", async () => {
    expect(await one(devicesCheck, host({}))).toMatchObject({ verdict: "skip" });
    const missing = await one(devicesCheck, host({ "proc/driver/nvidia/version": VERSION }));
    expect(missing).toMatchObject({ verdict: "fail" });
    expect(missing.remedy).toContain("nvidia-modprobe");
    const present = await one(
      devicesCheck,
      host({ "dev/nvidia0": "", "dev/nvidiactl": "", "dev/nvidia-uvm": "" }),
    );
    expect(present).toMatchObject({ verdict: "ok", seen: "2 device nodes can be opened" });
  });

  test("gpu.backend fails with every backend's reason", async () => {
    const { stdout, exitCode } = await runCommand([
      "doctor",
      "--only",
      "gpu.backend",
      "--json",
      "--set",
      "gpu.backend=replay",
    ]);
    expect(exitCode).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({
      findings: [{ verdict: "fail", seen: expect.stringContaining("replay: no recording") }],
    });
  });

  test("judgePoll() warns without energy and power, fails on a gap and on no GPU", () => {
    const gpu: GpuInfo = { uuid: "GPU-1", weight: 1, index: 0, name: "H100" };
    const poll = { sent: 0, received: 5e6, samples: [{ gpu: "GPU-1", at: 0, powerWatts: 80 }], gaps: [] };
    expect(judgePoll([gpu], poll, {})).toMatchObject({ verdict: "ok", seen: "1 GPU (H100) read in 5 ms" });
    expect(judgePoll([gpu], { ...poll, samples: [{ gpu: "GPU-1", at: 0 }] }, {})).toMatchObject({
      verdict: "warn",
    });
    const gap = { source: "gpu:GPU-1", at: 0, reason: "GPU is lost" };
    expect(judgePoll([gpu], { ...poll, gaps: [gap] }, {}).seen).toContain("GPU is lost");
    expect(judgePoll([], poll, {})).toMatchObject({ verdict: "fail" });
    expect(judgePoll([gpu], { ...poll, received: 2e9 }, {}).remedy).toContain("persistence");
  });
});

describe("server checks", () => {
  const info: ServerInfo = {
    id: "chat",
    type: "vllm",
    family: "engine",
    address: "localhost:8000",
    pollMs: 1000,
  };
  const sample: TokenSample = {
    server: "chat",
    family: "engine",
    sent: 0,
    received: 7e6,
    at: 1,
    readings: [{ model: "m", role: "combined", tokens: { output: 0 }, requests: {}, volume: "step" }],
    ignoredSamples: 0,
    errors: [],
  };

  test("judgeSample() is ok with a counter at 0, and warns without one", () => {
    expect(judgeSample(info, sample).map(({ id, verdict }) => `${id} ${verdict}`)).toEqual([
      "server.reachable ok",
      "server.counters ok",
    ]);
    expect(judgeSample(info, { ...sample, readings: [] })[1]).toMatchObject({
      verdict: "warn",
      seen: "it answers, but counts no tokens",
    });
    expect(judgeSample(info, { ...sample, ignoredSamples: 2, errors: ["line 3: cut"] })[1]?.seen).toContain(
      "line 3: cut",
    );
  });
});

describe("receivers", () => {
  test("server.reachable says whether they can listen, and asks nobody for counters", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const { port } = taken.address() as AddressInfo;
    const examine = async (endpoint: string): Promise<unknown> => {
      const flags = [
        "--only",
        "server.reachable",
        "--json",
        "--set",
        `servers.otlp=[{endpoint: "${endpoint}"}]`,
      ];
      return JSON.parse(
        (await runCommand(["doctor", ...flags, "--set", "export.prometheus.listen="])).stdout,
      );
    };
    expect(await examine(`127.0.0.1:${port}`)).toMatchObject({
      findings: [{ verdict: "fail", seen: expect.stringContaining("EADDRINUSE") }],
    });
    await new Promise((resolve) => taken.close(resolve));
    expect(await examine(`127.0.0.1:${port}`)).toMatchObject({
      findings: [{ id: "server.reachable", verdict: "ok" }],
    });
  });
});

describe("gateways", () => {
  test("server.gateway says which rule keeps one from being counted by several hosts", async () => {
    const name = { OTEL_RESOURCE_ATTRIBUTES: "host.name=n1" };
    const examine = async (...entries: object[]): Promise<unknown[][]> => {
      const settings = [`servers.litellm=${JSON.stringify(entries)}`, "export.prometheus.listen="];
      const flags = settings.flatMap((setting) => ["--set", setting]);
      const command = ["doctor", "--only", "server.gateway", "--json", ...flags];
      const { findings } = JSON.parse((await runCommand(command, name)).stdout);
      return findings.map((one: { facts: object; verdict: string }) => [one.verdict, one.facts]);
    };
    const far = { endpoint: "http://litellm.ml:4000" };
    const facts = (gateway: string, scope: string): object => ({ gateway, scope });
    expect(await examine(far)).toEqual([["warn", facts("litellm@http://litellm.ml:4000", "all")]]);
    expect(await examine({ ...far, gatewayId: "gw", owner: "n1" })).toEqual([["ok", facts("gw", "owner")]]);
    expect(await examine({ ...far, owner: "n2", id: "l" })).toEqual([
      ["ok", facts("litellm@http://litellm.ml:4000", "owner")],
    ]);
    expect(await examine({ ...far, upstreams: ["10.0.0.1"], upstreamLabel: "model_id" })).toEqual([
      ["ok", facts("litellm@http://litellm.ml:4000", "upstreams")],
    ]);
    expect(await examine({ endpoint: "127.0.0.1:4000" })).toEqual([
      ["ok", facts("litellm@n1/127.0.0.1:4000", "all")],
    ]);
    expect(
      await examine({ ...far, gatewayId: "gw" }, { endpoint: "http://b:4000", gatewayId: "gw" }),
    ).toEqual([
      ["warn", facts("gw", "all")],
      ["fail", facts("gw", "all")],
    ]);
  });
});

describe("host checks", () => {
  test("judgeNode() wants 24.20 and warns above 24", () => {
    expect(
      ["20.20.2", "24.19.0", "24.20.0", "24.30.1", "26.1.0"].map((version) => judgeNode(version).verdict),
    ).toEqual(["fail", "fail", "ok", "ok", "warn"]);
  });

  test("http.port tells a free port, a foreign program and a running tokenwatt apart", async () => {
    const listen = async (server: ReturnType<typeof createServer>): Promise<string> => {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return `127.0.0.1:${(server.address() as AddressInfo).port}`;
    };
    const foreign = createServer((socket) => socket.destroy());
    const ours = createHttpServer((_, answer) => answer.end('{"version":"1","gpu_backend":{}}'));
    const taken = await listen(foreign);
    expect(await judgePort(taken)).toMatchObject({
      verdict: "fail",
      seen: `cannot listen on ${taken}: EADDRINUSE`,
    });
    expect(await judgePort(await listen(ours))).toMatchObject({ verdict: "ok" });
    foreign.close();
    ours.close();
    expect(await judgePort("127.0.0.1:0")).toMatchObject({ verdict: "ok" });
    expect(await judgePort("192.0.2.1:9464")).toMatchObject({
      verdict: "fail",
      seen: expect.stringContaining("EADDRNOTAVAIL"),
    });
  });

  test("state.writable fails on a file in the way and makes nothing itself", () => {
    expect(judgeState(folder)).toMatchObject({ verdict: "ok" });
    const missing = join(folder, "a", "b");
    expect(judgeState(missing)).toMatchObject({ verdict: "ok", facts: { present: false } });
    const file = join(folder, "file");
    writeFileSync(file, "");
    expect(judgeState(file)).toMatchObject({ verdict: "fail", seen: `cannot write to ${file}: ENOTDIR` });
  });

  test("otlp.accepts fails with a way out when nothing listens, and is skipped when sending is off", async () => {
    const off = await runCommand(["doctor", "--only", "otlp", "--json"]);
    expect(JSON.parse(off.stdout)).toMatchObject({ findings: [{ verdict: "skip" }] });
    const closed = await runCommand([
      "doctor",
      "--only",
      "otlp",
      "--json",
      "--set",
      "export.otlp.endpoint=http://127.0.0.1:1",
    ]);
    expect(JSON.parse(closed.stdout)).toMatchObject({
      findings: [
        { id: "otlp.accepts", subject: "main", verdict: "fail", remedy: expect.stringContaining("4317") },
      ],
    });
  });
});
