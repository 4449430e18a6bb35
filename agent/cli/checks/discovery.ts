// discovery.host, discovery.kubernetes: what is found behind GPU processes and in pods, what was asked in vain and why.
// discovery.placement: whether each server's GPUs are known. The searches are the daemon's (look.ts).
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { ApiOutcome, KubernetesStatus } from "../../discovery/kubernetes.ts";
import type { Outcome } from "../../discovery/places.ts";
import type { Check, CheckContext, Finding, Verdict } from "./check.ts";
import type { Look, LookedAt } from "./look.ts";
import { lookOf } from "./look.ts";

const HOST = "discovery.host";
const KUBERNETES = "discovery.kubernetes";
const PLACEMENT = "discovery.placement";
/** Places named one by one; the rest are counted. */
const PLACES_MAX = 50;

/** Judges what discovery found, and which GPUs each engine has. */
export const discoveryCheck: Check = {
  ids: [HOST, KUBERNETES, PLACEMENT],
  run: async (context) => {
    if (context.loaded === undefined) return [];
    const look = await lookOf(context, context.loaded);
    if ("failed" in look) {
      const remedy = "name your servers under `servers`; discovery.enabled: false leaves the search out";
      return [{ id: HOST, verdict: "warn", seen: look.failed, remedy }];
    }
    return [
      ...judgeHost(look),
      ...judgeKubernetes(look.kubernetes, inKubernetes(context)),
      ...judgePlacement(look),
    ];
  },
};

/** The verdicts on GPU processes and their ports. Exported for its test: looks at hosts of every kind. */
export function judgeHost({ by, engines, host, kubernetes }: Look): readonly Finding[] {
  const { enabled, gpu_processes: processes, ports } = host;
  const facts = { by, ...host };
  if (!enabled) return [{ id: HOST, verdict: "skip", seen: "discovery.enabled is off", facts }];
  const one = (verdict: Verdict, seen: string, remedy?: string): readonly Finding[] => [
    { id: HOST, verdict, seen, ...(remedy === undefined ? {} : { remedy }), facts },
  ];
  const { count, names, visible } = processes;
  if (count === 0) return one("ok", "no process holds a GPU, so there is nothing to look behind");
  if (visible === 0) {
    const seen = `${count} GPU processes, none of them visible from here (no host PID namespace): their ports are not known`;
    return kubernetes.pods_api?.ok === true || kubernetes.kubelet_https?.ok === true
      ? one("ok", `${seen}; servers in pods are found through the kubelet`)
      : one("warn", seen, NO_PROCESSES);
  }
  const places = Object.entries(ports);
  if (places.length > 0) return placeFindings(HOST, places, PORT_REMEDIES, facts, portName);
  const seen = `${count} GPU processes (${names.join(", ")}) listen on no port that can be known as a server's`;
  return engines.length > 0 ? one("ok", seen) : one("warn", seen, NO_PORTS);
}

/** The verdicts on the kubelet's APIs and the pods of this node. Exported for its test: looks at hosts of every kind. */
export function judgeKubernetes(status: KubernetesStatus, here: boolean): readonly Finding[] {
  const {
    from,
    kubelet_https: https,
    left_out: leftOut,
    pod_resources: resources,
    pods,
    pods_api: api,
  } = status;
  if (from === "off") return [{ id: KUBERNETES, verdict: "skip", seen: "discovery.kubernetes is off" }];
  if (!here && api?.absent === true && resources?.absent === true && https === undefined) {
    return [{ id: KUBERNETES, verdict: "skip", seen: "there is no kubelet on this host" }];
  }
  const apis = [
    ...judgeApi("pods_api", api, https?.ok === true, NO_PODS_API),
    ...judgeApi("pod_resources", resources, false, NO_POD_RESOURCES),
    ...judgeApi("kubelet_https", https, api?.ok === true, NO_HTTPS),
  ];
  const answered = api?.ok === true || https?.ok === true;
  const places = Object.entries(pods ?? {});
  if (places.length === 0 && answered) {
    const wanted = from === "auto" ? "holds a GPU or asks to be read" : "asks to be read by annotations";
    apis.push({ id: KUBERNETES, verdict: "ok", seen: `no pod of this node ${wanted}` });
  }
  const findings = placeFindings(KUBERNETES, places, POD_REMEDIES, { from }, (name) => name);
  if ((leftOut ?? 0) === 0) return [...apis, ...findings];
  const seen = `${leftOut} more places in pods are not looked at`;
  return [
    ...apis,
    ...findings,
    { id: KUBERNETES, verdict: "warn", seen, remedy: "set discovery.kubernetes: annotations" },
  ];
}

/** The verdicts on servers whose GPUs are not known. Exported for its test: looks at hosts of every kind. */
export function judgePlacement(look: Look): readonly Finding[] {
  const { engines, host, placed } = look;
  const { count, visible } = host.gpu_processes;
  const homeless = engines.filter(({ id }) => !placed.has(id));
  if (engines.length === 0) return [{ id: PLACEMENT, verdict: "skip", seen: "there is no server to place" }];
  if (homeless.length === 0) {
    const seen = `the GPUs of ${engines.length === 1 ? "the server" : `all ${engines.length} servers`} are known`;
    return [{ id: PLACEMENT, verdict: "ok", seen }];
  }
  const elsewhere = homeless.filter(namesGpus);
  if (count === 0 && elsewhere.length === 0)
    return [{ id: PLACEMENT, verdict: "skip", seen: "no process holds a GPU now" }];
  return (count === 0 ? elsewhere : homeless).map((info) => ({
    id: PLACEMENT,
    subject: info.id,
    verdict: "warn",
    seen: `it answers at ${info.address}, but which GPUs are its own is not known: ${reason(info, visible)}`,
    remedy: visible === 0 && !namesGpus(info) ? NO_PROCESSES : NO_PLACE,
    facts: { by: look.by },
  }));
}

function namesGpus({ gpus = [] }: LookedAt): boolean {
  return gpus.length > 0;
}

function reason(info: LookedAt, visible: number): string {
  const { gpus = [], pod } = info;
  if (namesGpus(info)) return `this host has none that it names (${gpus.join(", ")})`;
  if (visible > 0) return "no GPU process that is visible belongs to its pod or listens on its port";
  return pod === undefined
    ? "GPU processes are not visible from here (no host PID namespace)"
    : "the kubelet names no GPU that its container has alone, and GPU processes are not visible from here";
}

function judgeApi(
  subject: string,
  api: ApiOutcome | undefined,
  replaced: boolean,
  remedy: string,
): Finding[] {
  if (api === undefined) return [];
  const base = { id: KUBERNETES, subject, seen: api.why };
  if (api.ok || replaced) return [{ ...base, verdict: "ok" }];
  return [{ ...base, verdict: "warn", remedy: api.hint ?? remedy }];
}

function placeFindings(
  id: string,
  places: readonly (readonly [string, Outcome])[],
  remedies: Readonly<Partial<Record<Outcome["state"], string>>>,
  facts: Readonly<Record<string, unknown>>,
  name: (place: string) => string,
): readonly Finding[] {
  const findings = places.map(([place, { state, why }]): Finding => {
    const remedy = remedies[state];
    const base = { id, subject: name(place), seen: `${STATES[state]}${why}` };
    return remedy === undefined ? { ...base, verdict: "ok" } : { ...base, verdict: "warn", remedy };
  });
  // What needs somebody first.
  const sorted = findings.toSorted((a, b) => Number(a.verdict === "ok") - Number(b.verdict === "ok"));
  const [first, ...rest] = sorted.slice(0, PLACES_MAX);
  const more = sorted.length - PLACES_MAX;
  return [
    ...(first === undefined ? [] : [{ ...first, facts }, ...rest]),
    ...(more > 0 ? [{ id, verdict: "ok" as const, seen: `${more} more, see /-/status` }] : []),
  ];
}

const portName = (port: string): string => `port ${port}`;

function inKubernetes({ env, root }: CheckContext): boolean {
  return (env["KUBERNETES_SERVICE_HOST"] ?? "") !== "" || existsSync(join(root, "var/lib/kubelet"));
}

const STATES: Readonly<Record<Outcome["state"], string>> = {
  found: "found: ",
  known: "",
  waiting: "not yet: ",
  nothing: "asked in vain: ",
  refused: "",
  off: "",
};

const NO_PROCESSES =
  "share the host's PID namespace (hostPID: true, chart profile attribution), or name `gpus` in each server's entry";
const NO_PORTS =
  "training needs nothing. Name a server under `servers` with its endpoint: a port without `--port` on the command " +
  "line, of another user, is only known where engines usually listen";
const NO_PLACE =
  "name its `gpus`, `pids`, `unit` or `cgroup` in its entry; a server whose GPUs are on another host is metered there";
const NO_PODS_API =
  "the kubelet has it from Kubernetes 1.37 on: mount /var/lib/kubelet/pods-api (chart value kubelet.podsApi) and run as " +
  "uid 0; for older ones set discovery.kubelet (chart value kubelet.https: true)";
const NO_POD_RESOURCES =
  "mount /var/lib/kubelet/pod-resources (chart value kubelet.podResources) and run as uid 0 (chart profile standard); " +
  "without it only annotated pods are read, and no pod's GPUs are known";
const NO_HTTPS = "see discovery.kubelet in the configuration";

const IN_VAIN =
  "many servers need a flag before they publish metrics (SGLang --enable-metrics, llama.cpp --metrics); one of another " +
  "kind is mapped by servers.prometheus-generic; what is no server needs nothing";
const PORT_REMEDIES: Readonly<Partial<Record<Outcome["state"], string>>> = {
  waiting: "if it still loads its model, wait; else name the address it listens on under `servers`",
  nothing: `${IN_VAIN}; \`tokenwatt probe http://127.0.0.1:PORT\` asks again`,
  refused: "name it under `servers` with an address this host reaches, and its `gpus`",
};
const POD_REMEDIES: Readonly<Partial<Record<Outcome["state"], string>>> = {
  waiting: "if it still loads its model, wait; else annotate its pod with tokenwatt.io/port",
  nothing: `${IN_VAIN} (tokenwatt.io/port: "none" on its pod says so)`,
  refused: "correct the pod's annotations tokenwatt.io/*; SERVERS.md lists them",
};
