// The plain manifests as committed: what a pod may do, and that kubelet reaches the address the agent listens on.
// That they are what the chart renders, and fit Kubernetes' own schemas, is tested in test/e2e/deploy-chart.e2e.ts.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import type { Container, Manifest } from "./manifests.ts";
import { containerOf, environmentOf, judgeReach } from "./manifests.ts";

const folder = fileURLToPath(new URL("../../deploy/kubernetes/", import.meta.url));
const read = (profile: string): Manifest[] =>
  parseAllDocuments(readFileSync(`${folder}tokenwatt-${profile}.yaml`, "utf8")).map(
    (one) => one.toJS() as Manifest,
  );
const daemonSet = (profile: string): Manifest =>
  read(profile).find((one) => one.kind === "DaemonSet") as Manifest;

describe.each(["restricted", "standard", "attribution"])("tokenwatt-%s.yaml", (profile) => {
  const set = daemonSet(profile);
  const pod = set.spec.template.spec;
  const container = containerOf(set);

  test("listens where kubelet's probes reach", () => {
    expect(judgeReach(container)).toEqual([]);
  });
  test("has no right beyond its profile", () => {
    expect(container.securityContext).toEqual({
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    expect(pod.securityContext.seccompProfile).toEqual({ type: "RuntimeDefault" });
    expect(pod.hostNetwork ?? false).toBe(false);
    expect(pod.hostPID ?? false).toBe(profile === "attribution");
    expect(pod.securityContext.runAsNonRoot).toBe(profile === "restricted");
    const paths = pod.volumes.flatMap((volume) =>
      volume.hostPath === undefined ? [] : [volume.hostPath.path],
    );
    expect(paths.sort()).toEqual(
      profile === "restricted"
        ? []
        : ["/var/lib/kubelet/pod-resources", "/var/lib/kubelet/pods-api", "/var/lib/tokenwatt"],
    );
  });
  test("asks the API server for nothing", () => {
    expect(pod.automountServiceAccountToken).toBe(false);
    expect(
      read(profile)
        .map((one) => one.kind)
        .sort(),
    ).toEqual(["ConfigMap", "DaemonSet", "Namespace", "ServiceAccount"]);
  });
  test("mounts the configuration as a folder", () => {
    expect(JSON.stringify(set)).not.toContain("subPath");
    expect(container.volumeMounts).toContainEqual({
      name: "config",
      mountPath: "/etc/tokenwatt",
      readOnly: true,
    });
  });
  test("shows no tenant on a port everybody reaches", () => {
    expect(environmentOf(container)["TOKENWATT_EXPORT_PROMETHEUS_TENANTS"]).toBe("false");
  });
  test("has a memory limit, no processor limit, and says why it ended", () => {
    expect(Object.keys(container.resources.limits)).toEqual(["memory"]);
    expect(container.terminationMessagePolicy).toBe("FallbackToLogsOnError");
  });
});

describe("judgeReach()", () => {
  const good = containerOf(daemonSet("standard"));
  const listening = (value: string): Container => ({
    ...good,
    env: [{ name: "TOKENWATT_EXPORT_PROMETHEUS_LISTEN", value }],
  });
  test("refuses loopback, the agent's default, and another port", () => {
    expect(judgeReach(listening("127.0.0.1:9464")).join()).toContain("loopback");
    expect(judgeReach({ ...good, env: [] }).join()).toContain("loopback");
    expect(judgeReach(listening("0.0.0.0:9465")).join()).toContain("9465");
  });
  test("refuses a probe that asks anything but the event loop or the first interval", () => {
    const probe = { httpGet: { path: "/-/status", port: "metrics" } };
    expect(judgeReach({ ...good, livenessProbe: probe }).join()).toContain("/-/status");
  });
});
