// The parts of Kubernetes manifests that the deploy tests look at.

export interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string | number; readonly scheme?: string };
  readonly tcpSocket?: { readonly port: string | number };
  readonly exec?: unknown;
}

export interface Container {
  readonly image: string;
  readonly env: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: unknown }[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly startupProbe: Probe;
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
  readonly resources: { readonly limits: Readonly<Record<string, string>> };
  readonly terminationMessagePolicy?: string;
  readonly volumeMounts: readonly Readonly<Record<string, unknown>>[];
}

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly data?: Readonly<Record<string, string>>;
  readonly spec: {
    readonly template: {
      readonly metadata: { readonly annotations: Readonly<Record<string, string>> };
      readonly spec: {
        readonly securityContext: { readonly seccompProfile: unknown; readonly runAsNonRoot: boolean };
        readonly volumes: readonly { readonly name: string; readonly hostPath?: { readonly path: string } }[];
        readonly nodeSelector: Readonly<Record<string, string>>;
        readonly hostPID?: boolean;
        readonly hostNetwork?: boolean;
        readonly runtimeClassName?: string;
        readonly automountServiceAccountToken?: boolean;
        readonly containers: readonly Container[];
      };
    };
  };
}

/** The only container of a DaemonSet. */
export function containerOf(set: Manifest): Container {
  const [container, ...others] = set.spec.template.spec.containers;
  if (container === undefined || others.length > 0) throw new Error("wanted one container");
  return container;
}

/** Plain values of the environment, by name. */
export function environmentOf(container: Container): Record<string, string> {
  return Object.fromEntries(
    container.env.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value]])),
  );
}

/** Why kubelet's probes would not reach the agent, or would depend on more than it; empty = they do reach it. */
export function judgeReach(container: Container): string[] {
  const listen = environmentOf(container)["TOKENWATT_EXPORT_PROMETHEUS_LISTEN"] ?? "127.0.0.1:9464";
  const split = listen.lastIndexOf(":");
  const [host, port] = [listen.slice(0, split), Number(listen.slice(split + 1))];
  const problems = ["0.0.0.0", "[::]"].includes(host) ? [] : [`${listen} is loopback or one address`];
  const named = new Map(container.ports.map((one) => [one.name, one.containerPort]));
  for (const probe of [container.startupProbe, container.livenessProbe, container.readinessProbe]) {
    const target = probe.httpGet?.port ?? probe.tcpSocket?.port;
    const asked = typeof target === "string" ? named.get(target) : target;
    if (asked !== port) problems.push(`a probe asks port ${asked}, the agent listens on ${port}`);
    const path = probe.httpGet?.path;
    if (path !== undefined && !["/-/healthy", "/-/ready"].includes(path))
      problems.push(`a probe asks ${path}`);
    if (probe.exec !== undefined) problems.push("a probe starts a process");
  }
  return problems;
}
