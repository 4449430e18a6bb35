// Whose a process is: cgroup paths as kubelets, Slurm, Docker and systemd write them.
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { holderOf, holdersByGpu } from "../../agent/host/holders.ts";
import type { Pod } from "../../agent/host/kubelet/pods.ts";
import { homeOf } from "../../agent/host/processes.ts";

const ID = "0123456789abcdef".repeat(4);
const UID = "11111111-2222-3333-4444-555555555555";
const pod: Pod = {
  ...{
    namespace: "team-a",
    name: "trainer-0",
    uid: UID,
    address: "10.0.0.1",
    hostNetwork: false,
    annotations: {},
  },
  containers: [
    { name: "sidecar", id: "containerd://aa", ports: [], words: [] },
    { name: "nemo", id: `containerd://${ID}`, ports: [], words: [] },
  ],
};

/** A proc folder of one process. */
function proc(environment: Readonly<Record<string, string>> = {}): string {
  const root = mkdtempSync(join(tmpdir(), "proc-"));
  mkdirSync(join(root, "7"));
  const words = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  writeFileSync(join(root, "7/environ"), words.join("\0"));
  mkdirSync(join(root, "1/root/etc"), { recursive: true });
  writeFileSync(
    join(root, "1/root/etc/passwd"),
    "root:x:0:0::/root:/bin/sh\nada:x:1815:1815::/home/ada:/bin/sh\n",
  );
  return root;
}

const of = (path: string, uid = 1815, pods: readonly Pod[] = [pod], root = proc()) =>
  holderOf({ pid: 7, uid, ...homeOf(path) }, pods, root);

describe("holderOf()", () => {
  const kubepods = `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID.replaceAll("-", "_")}.slice/cri-containerd-${ID}.scope`;

  test("names pod and container, the pod's uid while the kubelet is silent", () => {
    expect(of(kubepods)).toEqual({
      kind: "pod",
      name: "team-a/trainer-0/nemo",
      namespace: "team-a",
      pod: "trainer-0",
      container: "nemo",
    });
    expect(of(kubepods, 0, [])).toEqual({ kind: "pod", name: UID });
    expect(of(kubepods.replace(ID, "f".repeat(64)))).toMatchObject({ name: "team-a/trainer-0" });
  });

  test.each([
    "/system.slice/slurmstepd.scope/job_4711/step_0/user/task_0",
    "/slurm/uid_1815/job_4711/step_batch",
    "/system.slice/node1_slurmstepd.scope/job_4711/step_extern/user/task_special",
  ])("names the job of %s with account and user", (path) => {
    expect(of(path)).toEqual({ kind: "job", name: "4711", user: "ada" });
    const known = proc({ SLURM_JOB_ACCOUNT: "physics", SLURM_JOB_USER: "grace" });
    expect(of(path, 1815, [], known)).toEqual({
      kind: "job",
      name: "4711",
      account: "physics",
      user: "grace",
    });
  });

  test.each([
    [`/system.slice/docker-${ID}.scope`, { kind: "container", name: ID.slice(0, 12) }],
    ["/system.slice/vllm.service", { kind: "unit", name: "vllm.service" }],
    [
      "/user.slice/user-1815.slice/user@1815.service/app.slice/notebook.service",
      { kind: "unit", name: "notebook.service" },
    ],
    ["/user.slice/user-1815.slice/user@1815.service/init.scope", { kind: "user", name: "ada", user: "ada" }],
    ["/user.slice/user-1815.slice/session-3.scope", { kind: "user", name: "ada", user: "ada" }],
    ["/system.slice/ssh.service", { kind: "user", name: "ada", user: "ada" }],
  ])("of %s", (path, holder) => {
    expect(of(path)).toEqual(holder);
  });

  test("names a user that has no name by its number", () => {
    expect(of("/user.slice/user-4242.slice/session-3.scope", 4242)).toMatchObject({
      kind: "user",
      name: "4242",
    });
  });
});

test("holdersByGpu() lists every container a GPU was given to", () => {
  const given = [
    { namespace: "a", pod: "p", container: "c", gpus: ["GPU-1", "GPU-2"], shared: false },
    { namespace: "a", pod: "q", container: "d", gpus: ["GPU-2"], shared: true },
  ];
  const byGpu = holdersByGpu(given);
  expect(byGpu.get("GPU-1")?.map(({ name }) => name)).toEqual(["a/p/c"]);
  expect(byGpu.get("GPU-2")?.map(({ name }) => name)).toEqual(["a/p/c", "a/q/d"]);
});
