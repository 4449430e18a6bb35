// The chart by real Helm: lint, every profile and injection mode, refusal of typos, fit with Kubernetes' own schemas and
// with the agent: what a rendered pod gives it must be a configuration it accepts and an address a probe reaches.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { generated } from "../../deploy/generate.ts";
import type { Manifest } from "../deploy/manifests.ts";
import { containerOf, environmentOf, judgeReach } from "../deploy/manifests.ts";
import { pem } from "../fakes/tls-files.ts";
import { freePort } from "./deploy-fleet-rig.ts";
import type { Judge } from "./deploy-judge.ts";
import { installJudge } from "./deploy-judge.ts";
import { deployFolder, deployTool, runTool } from "./deploy-tools.ts";

const helm = deployTool("helm");
const chart = join(deployFolder, "chart");
const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "chart-"));
afterAll(() => rmSync(folder, { recursive: true }));

function template(...settings: string[]): { status: number | null; text: string; manifests: Manifest[] } {
  const flags = settings.flatMap((one) => (one.startsWith("--") ? [one] : ["--set", one]));
  const { status, text } = runTool(helm ?? "", [
    "template",
    "tw",
    chart,
    "--namespace",
    "metering",
    ...flags,
  ]);
  const manifests = status === 0 ? parseAllDocuments(text).map((one) => one.toJS() as Manifest) : [];
  return { status, text, manifests: manifests.filter((one) => one !== null) };
}

const daemonSet = (manifests: readonly Manifest[]): Manifest =>
  manifests.find((one) => one.kind === "DaemonSet") as Manifest;

const OPERATOR = ["PodMonitor", "PrometheusRule"].map(
  (kind) => `--api-versions=monitoring.coreos.com/v1/${kind}`,
);
const VARIANTS: readonly (readonly string[])[] = [
  ...["restricted", "standard", "attribution"].flatMap((profile) =>
    ["runtimeClass", "default-runtime", "management-cdi", "nri", "host-path"]
      .filter((injection) => profile !== "restricted" || injection !== "host-path")
      .map((injection) => [`profile=${profile}`, `nvidia.injection=${injection}`]),
  ),
  ["gpuOperator.driverUpgrade=label"],
  ["prometheus.tlsSecret=tls"],
  ["prometheus.tlsSecret=tls", "prometheus.clientAuth=true", "prometheus.tenants=true", ...OPERATOR],
  ["networkPolicy.enabled=true", "networkPolicy.from[0].namespaceSelector.matchLabels.name=monitoring"],
  ["dashboards.enabled=true"],
  ["otlp.endpoint=https://otel.example.com:4317", "otlp.bearerSecret.name=otlp", "otlp.tlsSecret=otlp-tls"],
  ["kubelet.https=true"],
  ["profile=restricted", "kubelet.https=true", "kubelet.insecureSkipVerify=true", "otlp.endpoint="],
  ["otlp.endpoint=", "clusterName=east", "prometheus.address=[::]", "configFiles.prices\\.yaml=version: a"],
];

describe.skipIf(helm === undefined)("deploy/chart", () => {
  test("passes lint, strictly", () => {
    const { status, text } = runTool(helm ?? "", ["lint", "--strict", chart]);
    expect(status, text).toBe(0);
  });

  test.each(VARIANTS.map((one) => [one.join(" "), one] as const))(
    "renders %s, probes reach the agent",
    (_, settings) => {
      const { status, text, manifests } = template(...settings);
      expect(status, text).toBe(0);
      expect(judgeReach(containerOf(daemonSet(manifests)))).toEqual([]);
      expect(JSON.stringify(manifests)).not.toContain("subPath");
      const rights = manifests.map(({ kind }) => kind).filter((kind) => /Role/.test(kind));
      expect(rights).toEqual(
        settings.includes("kubelet.https=true") ? ["ClusterRole", "ClusterRoleBinding"] : [],
      );
    },
  );

  test("gives the right to read a kubelet's pods and nothing else, with a token, only where HTTPS is asked for", () => {
    const { manifests } = template("kubelet.https=true");
    const of = (kind: string) =>
      manifests.find((one) => one.kind === kind) as unknown as Record<string, unknown>;
    const rules = [{ apiGroups: [""], resources: ["nodes/pods"], verbs: ["get"] }];
    expect(of("ClusterRole")["rules"]).toEqual(rules);
    const { name } = of("ClusterRole")["metadata"] as { name: string };
    expect(of("ClusterRoleBinding")).toMatchObject({
      roleRef: { kind: "ClusterRole", name },
      subjects: [{ kind: "ServiceAccount", name: "tw-tokenwatt", namespace: "metering" }],
    });
    const { spec } = daemonSet(manifests).spec.template;
    expect(spec.automountServiceAccountToken).toBe(true);
    const endpoint = (...settings: string[]) =>
      environmentOf(containerOf(daemonSet(template("kubelet.https=true", ...settings).manifests)))[
        "TOKENWATT_DISCOVERY_KUBELET_ENDPOINT"
      ];
    expect(endpoint()).toBe("https://$(HOST_IP):10250");
    expect(endpoint("prometheus.address=[::]", "otlp.endpoint=")).toBe("https://[$(HOST_IP)]:10250");
    expect(daemonSet(template().manifests).spec.template.spec.automountServiceAccountToken).toBe(false);
  });

  test("renders operator objects only where their CRD is, or where they are asked for", () => {
    const kinds = (...settings: string[]) => template(...settings).manifests.map((one) => one.kind);
    expect(kinds()).not.toContain("PodMonitor");
    expect(kinds(...OPERATOR)).toEqual(expect.arrayContaining(["PodMonitor", "PrometheusRule"]));
    expect(kinds("prometheus.podMonitor.enabled=true")).toContain("PodMonitor");
    expect(kinds("prometheus.podMonitor.enabled=false", ...OPERATOR)).not.toContain("PodMonitor");
  });

  test("brings the driver in by the way that was chosen", () => {
    const pod = (injection: string) =>
      daemonSet(template(`nvidia.injection=${injection}`).manifests).spec.template;
    const visible = (injection: string) =>
      environmentOf(pod(injection).spec.containers[0] as never)["NVIDIA_VISIBLE_DEVICES"];
    expect(pod("runtimeClass").spec.runtimeClassName).toBe("nvidia");
    expect(pod("default-runtime").spec.runtimeClassName).toBeUndefined();
    expect(visible("default-runtime")).toBe("all");
    expect(visible("management-cdi")).toBe("management.nvidia.com/gpu=all");
    expect(pod("nri").metadata.annotations["nvidia.cdi.k8s.io/container.tokenwatt"]).toContain("gpu=all");
    expect(visible("nri")).toBeUndefined();
    expect(pod("host-path").spec.containers[0]?.securityContext["privileged"]).toBe(true);
    const label = daemonSet(template("gpuOperator.driverUpgrade=label").manifests).spec.template.spec
      .nodeSelector;
    expect(label["nvidia.com/gpu.deploy.client"]).toBe("true");
  });

  test.each([
    ["profil=standard", "additional properties 'profil'"],
    ["profile=privileged", "/profile"],
    ["prometheus.prot=9464", "additional properties 'prot'"],
    ["config.servers.vlm[0].id=a", "additional properties 'vlm'"],
    ["config.rates.gpuMs=fast", "/config/rates/gpuMs"],
    ["resources.limits.memroy=1Gi", "additional properties 'memroy'"],
    ["config.export.prometheus.listen=127.0.0.1:9464", "the probes must reach the address"],
    ["prometheus.clientAuth=true", "prometheus.clientAuth needs prometheus.tlsSecret"],
    ["kubelet.insecureSkipVerify=true", "kubelet.insecureSkipVerify is about kubelet.https"],
  ])("refuses %s and says where", (setting, said) => {
    const { status, text } = template(setting);
    expect(status).not.toBe(0);
    expect(text).toContain(said);
  });

  test("says after the installation what a missing runtime class looks like, where one is used", () => {
    const notes = (...settings: string[]): string => {
      const flags = settings.flatMap((one) => ["--set", one]);
      return (
        runTool(helm ?? "", ["install", "tw", chart, "--dry-run=client", ...flags]).text.split("NOTES:")[1] ??
        ""
      );
    };
    expect(notes("nvidia.runtimeClassName=nvidia-cdi")).toContain('RuntimeClass "nvidia-cdi" not found');
    expect(notes("nvidia.injection=default-runtime")).not.toContain("RuntimeClass");
    expect(notes("prometheus.tenants=true")).toContain("can read the names of your customers");
  });

  test("deploy/kubernetes is what the chart renders", () => {
    const out = join(folder, "kubernetes");
    mkdirSync(out);
    const path = `${join(helm ?? "", "..")}:${process.env["PATH"]}`;
    const script = join(deployFolder, "kubernetes/render.sh");
    expect(spawnSync("sh", [script, out], { env: { ...process.env, PATH: path } }).status).toBe(0);
    for (const name of [
      "tokenwatt-restricted",
      "tokenwatt-standard",
      "tokenwatt-attribution",
      "prometheus-operator",
    ]) {
      const [fresh, committed] = [out, join(deployFolder, "kubernetes")].map((one) =>
        readFileSync(join(one, `${name}.yaml`), "utf8"),
      );
      expect(fresh === committed, `${name}.yaml is stale: run sh deploy/kubernetes/render.sh`).toBe(true);
    }
  });

  test("the values schema holds the agent's configuration as it is now", () => {
    const fresh = generated().get("chart/values.schema.json");
    expect(
      readFileSync(join(chart, "values.schema.json"), "utf8") === fresh,
      "stale: run npm run generate",
    ).toBe(true);
  });
});

/** What lies in a mounted secret, by file name. */
const SECRETS: Readonly<Record<string, string>> = {
  "tls.crt": pem("trusted-server.pem"),
  "tls.key": pem("trusted-server.key"),
  "ca.crt": pem("trusted-ca.pem"),
};

/** A path in a mounted secret as one on this machine, with a file of its name behind it; other values as they are. */
function mounted(value: string): string {
  if (!/^\/etc\/tokenwatt-/.test(value)) return value;
  const path = join(folder, "mounted", value);
  mkdirSync(dirname(path), { recursive: true });
  const source = SECRETS[basename(path)];
  writeFileSync(path, source === undefined ? "a-token" : readFileSync(source));
  return path;
}

describe.skipIf(helm === undefined)("a rendered pod and the agent", () => {
  const address = Object.values(networkInterfaces())
    .flat()
    .find((one) => one?.family === "IPv4" && !one.internal)?.address;
  const run = (manifests: readonly Manifest[], args: readonly string[]) => {
    const config = manifests.find((one) => one.kind === "ConfigMap")?.data?.["config.yaml"] ?? "";
    writeFileSync(join(folder, "config.yaml"), config);
    const env = {
      ...environmentOf(containerOf(daemonSet(manifests))),
      TOKENWATT_STATE_DIR: join(folder, "state"),
    };
    // Kubernetes puts the node's address in, and the files of secrets in place.
    const known = Object.fromEntries(
      Object.entries(env).map(([name, value]) => [name, mounted(value.replace("$(HOST_IP)", "127.0.0.1"))]),
    );
    return {
      env: { PATH: process.env["PATH"], ...known },
      args: [main, ...args, "--config", join(folder, "config.yaml")],
    };
  };

  test.each(VARIANTS.map((one) => [one.join(" "), one] as const))(
    "its configuration is accepted: %s",
    (_, settings) => {
      const server = [
        "config.servers.vllm[0].id=chat",
        "config.servers.vllm[0].endpoint=http://vllm.ml:8000",
      ];
      const { env, args } = run(template(...settings, ...server).manifests, ["config", "check"]);
      const { status, stderr } = spawnSync(process.execPath, args, { env, encoding: "utf8" });
      expect(status, stderr).toBe(0);
    },
  );

  test.skipIf(address === undefined)(
    "answers its probes from outside loopback, without driver, server or Collector",
    async () => {
      const free = await freePort();
      const { manifests } = template(`prometheus.port=${free}`);
      const { env, args } = run(manifests, ["run"]);
      const child = spawn(process.execPath, args, { env, stdio: ["ignore", "ignore", "inherit"] });
      try {
        const { startupProbe, readinessProbe } = containerOf(daemonSet(manifests));
        for (const probe of [startupProbe, readinessProbe]) {
          const url = `http://${address}:${free}${probe.httpGet?.path}`;
          await expect
            .poll(async () => (await fetch(url).catch(() => undefined))?.status, {
              timeout: 60_000,
              interval: 500,
            })
            .toBe(200);
        }
      } finally {
        child.kill();
      }
    },
  );
});

describe.skipIf(helm === undefined)("Kubernetes' own schemas", () => {
  let complaints: Judge | undefined;
  beforeAll(() => {
    complaints = installJudge(folder);
  });

  test("accept every variant: right types, no unknown key", ({ skip }) => {
    if (complaints === undefined) return skip();
    const all = VARIANTS.flatMap((settings) => template(...settings, ...OPERATOR).manifests);
    expect(complaints(all)).toEqual([]);
  });

  test("would see a wrong type and an unknown key", ({ skip }) => {
    if (complaints === undefined) return skip();
    const set = daemonSet(template().manifests);
    const wrong = JSON.parse(JSON.stringify(set)) as {
      spec: { template: { spec: Record<string, unknown> } };
    };
    wrong.spec.template.spec["hostPID"] = "yes";
    wrong.spec.template.spec["readynessProbe"] = {};
    const said = complaints([wrong]).join("\n");
    expect(said).toContain("hostPID");
    expect(said).toContain("readynessProbe");
  });
});
