import { describe, expect, test } from "vitest";
import { judgeHost, judgeKubernetes, judgePlacement } from "../../../agent/cli/checks/discovery.ts";
import type { Look } from "../../../agent/cli/checks/look.ts";
import { lookOfStatus } from "../../../agent/cli/checks/look.ts";
import type { KubernetesStatus } from "../../../agent/discovery/kubernetes.ts";
import type { ServerInfo } from "../../../agent/model.ts";

const engine: ServerInfo = {
  id: "vllm@a",
  type: "vllm",
  family: "engine",
  address: "127.0.0.1:8000",
  pollMs: 1000,
};
const look = (more: {
  count?: number;
  visible?: number;
  ports?: Look["host"]["ports"];
  enabled?: boolean;
  kubernetes?: KubernetesStatus;
  engines?: readonly ServerInfo[];
  placed?: readonly string[];
}): Look => ({
  by: "the running daemon",
  host: {
    enabled: more.enabled ?? true,
    gpu_processes: { count: more.count ?? 1, visible: more.visible ?? more.count ?? 1, names: ["python3"] },
    ports: more.ports ?? {},
  },
  kubernetes: more.kubernetes ?? { from: "auto" },
  engines: more.engines ?? [],
  placed: new Set(more.placed ?? []),
  found: [],
});
const verdicts = (findings: ReturnType<typeof judgeHost>): string[] =>
  findings.map(({ subject, verdict }) => `${subject ?? "-"} ${verdict}`);

describe("judgeHost()", () => {
  test.each([
    ["is off", { enabled: false }, "skip", /discovery\.enabled is off/],
    ["sees no GPU process", { count: 0 }, "ok", /no process holds a GPU/],
    [
      "sees none of them",
      { count: 2, visible: 0 },
      "warn",
      /2 GPU processes, none of them visible.*no host PID namespace/,
    ],
    [
      "sees none of them, but the kubelet tells",
      { visible: 0, kubernetes: { from: "auto", pods_api: { ok: true, why: "" } } as const },
      "ok",
      /found through the kubelet/,
    ],
    ["finds no port", { count: 3 }, "warn", /3 GPU processes \(python3\) listen on no port/],
    ["finds no port and needs none", { engines: [engine] }, "ok", /listen on no port/],
  ] as const)("that %s", (_, more, verdict, seen) => {
    const [finding, ...others] = judgeHost(look(more));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ id: "discovery.host", verdict, seen: expect.stringMatching(seen) });
    expect(finding?.remedy === undefined).toBe(verdict !== "warn");
  });

  test("tells each port, what needs somebody first, and what to do", () => {
    const findings = judgeHost(
      look({
        ports: {
          8000: { state: "found", why: "vllm", server: "vllm@a" },
          8001: { state: "nothing", why: "it answers 404" },
          8002: { state: "waiting", why: "nothing listens on it yet" },
          8003: { state: "refused", why: "in a network namespace of its own" },
          8004: { state: "known", why: "read already as x", server: "x" },
        },
      }),
    );
    expect(verdicts(findings)).toEqual([
      "port 8001 warn",
      "port 8002 warn",
      "port 8003 warn",
      "port 8000 ok",
      "port 8004 ok",
    ]);
    for (const { remedy, verdict } of findings) expect(remedy === undefined).toBe(verdict === "ok");
    expect(findings[0]?.seen).toBe("asked in vain: it answers 404");
  });

  test("tells 50 ports one by one and counts the rest", () => {
    const many = Array.from({ length: 60 }, (_, port) => [port, { state: "found", why: "" } as const]);
    const findings = judgeHost(look({ ports: Object.fromEntries(many) }));
    expect(findings).toHaveLength(51);
    expect(findings.at(-1)?.seen).toContain("10 more");
  });
});

describe("judgeKubernetes()", () => {
  const absent = (what: string) => ({ ok: false, absent: true, why: `there is no socket ${what}` }) as const;
  const none = { from: "auto", pods_api: absent("a"), pod_resources: absent("b") } as const;

  test("is silent where there is no kubelet, and says what is missing in a pod", () => {
    expect(verdicts(judgeKubernetes(none, false))).toEqual(["- skip"]);
    expect(verdicts(judgeKubernetes({ from: "off" }, true))).toEqual(["- skip"]);
    const findings = judgeKubernetes(none, true);
    expect(verdicts(findings)).toEqual(["pods_api warn", "pod_resources warn"]);
    expect(findings[0]?.remedy).toMatch(/1\.37 .*pods-api.*kubelet\.https: true/);
    expect(findings[1]?.remedy).toMatch(/pod-resources.*uid 0/);
  });

  test("says that a socket is for root only, and what HTTPS was refused", () => {
    const hint = "the socket answers to uid 0 only";
    const status = {
      from: "auto",
      pods_api: { ok: false, why: "cannot be looked at (EACCES) by uid 999", hint },
      kubelet_https: { ok: false, why: "answers 403", hint: "bind the service account" },
    } as const;
    expect(judgeKubernetes(status, true).map(({ remedy }) => remedy)).toEqual([
      hint,
      "bind the service account",
    ]);
  });

  test("is content with one way to the pods", () => {
    const status = {
      ...none,
      pod_resources: { ok: true, why: "" },
      kubelet_https: { ok: true, why: "" },
    } as const;
    expect(verdicts(judgeKubernetes(status, true))).toEqual([
      "pods_api ok",
      "pod_resources ok",
      "kubelet_https ok",
      "- ok",
    ]);
  });

  test("tells refused annotations, ports asked in vain, and pods that want nothing", () => {
    const findings = judgeKubernetes(
      {
        from: "auto",
        pods_api: { ok: true, why: "" },
        pods: {
          "a/typo": { state: "refused", why: "Cannot read annotation tokenwatt.io/prot" },
          "a/llm": { state: "found", why: "vllm", server: "x" },
          "a/train/main": { state: "nothing", why: "it answers 404" },
          "a/none": { state: "off", why: 'its annotation says "none"' },
        },
        left_out: 3,
      },
      true,
    );
    expect(verdicts(findings)).toEqual([
      "pods_api ok",
      "a/typo warn",
      "a/train/main warn",
      "a/llm ok",
      "a/none ok",
      "- warn",
    ]);
  });
});

describe("judgePlacement()", () => {
  const other = { ...engine, id: "vllm@b", pod: { namespace: "a", name: "b" } };

  test("is content when every server has its GPUs, or there is nothing to place", () => {
    expect(verdicts(judgePlacement(look({ engines: [engine], placed: ["vllm@a"] })))).toEqual(["- ok"]);
    expect(verdicts(judgePlacement(look({})))).toEqual(["- skip"]);
    expect(verdicts(judgePlacement(look({ engines: [engine], count: 0 })))).toEqual(["- skip"]);
  });

  test("says that a port is known and cannot be placed, and why", () => {
    const blind = judgePlacement(look({ engines: [engine, other], visible: 0 }));
    expect(verdicts(blind)).toEqual(["vllm@a warn", "vllm@b warn"]);
    expect(blind[0]).toMatchObject({
      seen: expect.stringMatching(/127\.0\.0\.1:8000.*no host PID namespace/),
      remedy: expect.stringMatching(/hostPID: true.*gpus/),
    });
    expect(blind[1]?.seen).toContain("names no GPU that its container has alone");
    const seeing = judgePlacement(look({ engines: [engine] }));
    expect(seeing[0]).toMatchObject({ remedy: expect.stringContaining("`pids`") });
  });

  test("says that no GPU of this host is one that a server names, be there processes or not", () => {
    const elsewhere = { ...engine, gpus: ["GPU-3"] };
    for (const more of [{}, { visible: 0 }, { count: 0, visible: 0 }]) {
      expect(judgePlacement(look({ engines: [elsewhere], ...more }))).toMatchObject([
        { verdict: "warn", seen: expect.stringContaining("none that it names (GPU-3)") },
      ]);
    }
  });
});

describe("lookOfStatus()", () => {
  test("leaves a daemon of another version alone", () => {
    expect(lookOfStatus({})).toBeUndefined();
    expect(lookOfStatus({ host: { discovery: { 8000: "vllm: x" }, kubernetes: {} } })).toBeUndefined();
  });

  test.each([
    ["one of this host", ["GPU-1", "GPU-9"], true],
    ["the board of an instance", ["GPU-2"], true],
    ["one of another host", ["GPU-9"], false],
    ["none", [], false],
  ])("takes a server for placed that names %s: %s", (_, gpus, isPlaced) => {
    const { host, kubernetes } = look({});
    const here = [{ uuid: "GPU-1" }, { uuid: "MIG-1", parent: "GPU-2" }];
    const status = { host: { discovery: host, kubernetes }, servers: [{ ...engine, gpus }], gpus: here };
    expect(lookOfStatus(status)?.placed.has(engine.id)).toBe(isPlaced);
    // Where no GPU can be read nothing speaks against a name.
    expect(lookOfStatus({ ...status, gpus: [] })?.placed.has(engine.id)).toBe(gpus.length > 0);
  });

  test("judges servers that were found by the daemon's own health", () => {
    const { host, kubernetes } = look({ ports: { 8000: { state: "found", why: "", server: "vllm@a" } } });
    const status = {
      host: { discovery: host, kubernetes },
      servers: [engine],
      correlation: { placements: [{ server: "vllm@a" }, {}] },
      sources: { "server:vllm@a": { ok: false, reason: "nothing listens there" } },
    };
    const told = lookOfStatus(status);
    expect([...(told?.placed ?? [])]).toEqual(["vllm@a"]);
    expect(told?.found).toMatchObject([{ id: "server.reachable", subject: "vllm@a", verdict: "fail" }]);
  });
});
