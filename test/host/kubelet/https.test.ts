import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { kubeletConfig } from "../../../agent/host/config.ts";
import { getFromKubelet } from "../../../agent/host/kubelet/https.ts";
import { listPodsByHttps } from "../../../agent/host/kubelet/pods.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import type { FakeCertificate } from "../../fakes/certificates.ts";
import { fakeCertificate } from "../../fakes/certificates.ts";
import { fakeKubeletHttps } from "../../fakes/kubelet-https.ts";

const closing: (() => unknown)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});
const context = { clock: systemClock() };

async function start(own?: FakeCertificate) {
  const kubelet = await fakeKubeletHttps(own);
  closing.push(kubelet.close);
  const entry = (more: object = {}) => {
    const { caFile, endpoint, tokenFile } = kubelet;
    return kubeletConfig.parse({ endpoint, tokenFile, caFile, ...more });
  };
  return { kubelet, entry };
}

const POD = {
  metadata: { name: "llm-0", namespace: "ml", uid: "u1", annotations: { "tokenwatt.io/port": "8000" } },
  spec: {
    hostNetwork: true,
    initContainers: [
      { name: "fetch" },
      { name: "mesh", restartPolicy: "Always", ports: [{ containerPort: 1 }] },
    ],
    containers: [
      {
        name: "engine",
        command: ["vllm"],
        args: ["serve"],
        ports: [
          { containerPort: 8000, name: "http", protocol: "TCP" },
          { containerPort: 9, protocol: "UDP" },
          { containerPort: 7 },
        ],
      },
    ],
  },
  status: {
    phase: "Running",
    podIP: "10.0.0.9",
    containerStatuses: [{ name: "engine", containerID: "containerd://e" }],
    initContainerStatuses: [{ name: "mesh", containerID: "containerd://m" }, { name: "fetch" }],
  },
};

describe("listPodsByHttps()", () => {
  test("reads running pods with a token, under the cluster's certificate", async () => {
    const { kubelet, entry } = await start();
    const pending = { ...POD, status: { phase: "Pending" } };
    kubelet.body = JSON.stringify({ kind: "PodList", items: [POD, pending, {}] });
    expect(await listPodsByHttps(context, entry())).toEqual([
      {
        namespace: "ml",
        name: "llm-0",
        uid: "u1",
        address: "10.0.0.9",
        hostNetwork: true,
        annotations: { "tokenwatt.io/port": "8000" },
        containers: [
          {
            name: "engine",
            id: "containerd://e",
            words: ["vllm", "serve"],
            ports: [{ port: 8000, name: "http" }, { port: 7 }],
          },
          { name: "mesh", id: "containerd://m", words: [], ports: [{ port: 1 }] },
        ],
      },
    ]);
    expect(kubelet.asked).toEqual(["GET /pods"]);
  });

  test("says so when the answer is no list of pods", async () => {
    const { kubelet, entry } = await start();
    for (const body of ["<html>", "{}", '{"items":[null]}', '{"items":[{"metadata":']) {
      kubelet.body = body;
      await expect(listPodsByHttps(context, entry())).rejects.toMatchObject({
        kind: "transient",
        message: expect.stringContaining("as a list of pods"),
      });
    }
  });
});

describe("getFromKubelet()", () => {
  test.each([
    [401, /token is not one of this cluster/],
    [403, /nodes\/pods .*older than 1\.33/],
    [500, undefined],
  ])("explains an answer %s", async (status, hint) => {
    const { kubelet, entry } = await start();
    kubelet.status = status;
    await expect(getFromKubelet(context, entry(), "/pods")).rejects.toMatchObject({
      kind: "transient",
      message: expect.stringContaining(`answers ${status}`),
      hint: hint === undefined ? undefined : expect.stringMatching(hint),
    });
  });

  test("believes no certificate it was not told of, and shows the token to nobody before", async () => {
    const self = fakeCertificate("node-1", { addresses: ["127.0.0.1"] });
    const { kubelet, entry } = await start(self);
    await expect(getFromKubelet(context, entry(), "/pods")).rejects.toMatchObject({
      message: expect.stringMatching(/self.signed/),
      hint: expect.stringMatching(/caFile.*insecureSkipVerify: true/),
    });
    expect(kubelet.asked).toEqual([]);
    const caFile = join(kubelet.caFile, "../self.crt");
    writeFileSync(caFile, self.cert);
    expect(await getFromKubelet(context, entry({ caFile }), "/pods")).toContain("PodList");
    expect(await getFromKubelet(context, entry({ insecureSkipVerify: true }), "/pods")).toContain("PodList");
  });

  test("wants the certificate to bear the host, or the name that was configured", async () => {
    const self = fakeCertificate("node-1", { names: ["node-1"] });
    const { kubelet, entry } = await start(self);
    writeFileSync(kubelet.caFile, self.cert);
    await expect(getFromKubelet(context, entry(), "/pods")).rejects.toMatchObject({
      hint: expect.stringContaining("discovery.kubelet.serverName"),
    });
    expect(kubelet.asked).toEqual([]);
    expect(await getFromKubelet(context, entry({ serverName: "node-1" }), "/pods")).toContain("PodList");
  });

  test("reads the token anew each time, and names the file that is missing", async () => {
    const { kubelet, entry } = await start();
    await getFromKubelet(context, entry(), "/pods");
    writeFileSync(kubelet.tokenFile, "another");
    await expect(getFromKubelet(context, entry(), "/pods")).rejects.toThrow("answers 401");
    const none = getFromKubelet(context, entry({ tokenFile: "/nowhere/token" }), "/pods");
    await expect(none).rejects.toThrow("/nowhere/token: there is no such file");
  });

  test("takes 32 MiB and no more", async () => {
    const { kubelet, entry } = await start();
    kubelet.body = "x".repeat(32 * 1024 * 1024);
    expect((await getFromKubelet(context, entry(), "/pods")).length).toBe(32 * 1024 * 1024);
    kubelet.body += "x";
    await expect(getFromKubelet(context, entry(), "/pods")).rejects.toThrow("larger than 33554432 bytes");
  });

  test("is refused plain HTTP and anything but host and port by the configuration", () => {
    for (const endpoint of ["http://10.0.0.7:10250", "https://10.0.0.7", "https://10.0.0.7:10250/pods"]) {
      expect(kubeletConfig.safeParse({ endpoint }).success).toBe(false);
    }
    expect(kubeletConfig.parse({ endpoint: "https://[fd00::1]:10250" })).toMatchObject({
      insecureSkipVerify: false,
      caFile: "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
    });
  });
});
