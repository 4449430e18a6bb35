// Servers in pods of this node that ask to be read by annotations `tokenwatt.io/*`, kept in step with the kubelet.
// Two unix sockets, no right in the cluster: the Pods API names pods and annotations, pod-resources their GPUs. Where
// there is no kubelet this costs two looks at a path every 15 s. While the kubelet does not answer, what is known stays.
import type { Cancel } from "./clock.ts";
import { every } from "./clock.ts";
import type { Config } from "./config.ts";
import type { PodGpus } from "./host/pod-resources.ts";
import { listPodGpus } from "./host/pod-resources.ts";
import type { Pod } from "./host/pods.ts";
import { listPods } from "./host/pods.ts";
import { portOf } from "./host-watch.ts";
import type { Nanos } from "./model.ts";
import type { Pipeline } from "./pipeline.ts";
import type { PodServer } from "./pod-servers.ts";
import { serverOfPod } from "./pod-servers.ts";
import { discoverServer, typeOf } from "./servers/discover.ts";
import type { ServerSource, ServerType, SourceContext } from "./source.ts";

const LOOK_MS = 15_000;
const RETRY_FIRST_NANOS = 15e9;
const RETRY_LONGEST_NANOS = 600e9;
const PODS_MAX = 500;

export interface KubernetesWatchParts {
  readonly context: SourceContext;
  readonly pipeline: Pipeline;
  readonly discovery: Config["discovery"];
  readonly scrapeMs: number;
}

interface Known {
  readonly fingerprint: string;
  outcome: string;
  server?: ServerSource;
  nextAt: Nanos;
  waitNanos: Nanos;
}

/** Watches the pods of this node until stopped. */
export class KubernetesWatch {
  readonly #parts: KubernetesWatchParts;
  /** By `namespace/name`. */
  readonly #pods = new Map<string, Known>();
  readonly #apis: Record<string, string> = {};
  #cancel: Cancel = () => {};

  constructor(parts: KubernetesWatchParts) {
    this.#parts = parts;
  }

  start(): void {
    const { context, discovery } = this.#parts;
    if (discovery.kubernetes === "off") return;
    this.#cancel = every(context.clock, LOOK_MS, () => this.look(), context.clock.now());
  }

  stop(): void {
    this.#cancel();
  }

  /** What the kubelet answered, and what became of each pod that asks to be read; for `/-/status`. */
  status(): Readonly<Record<string, unknown>> {
    if (this.#parts.discovery.kubernetes === "off") return { off: "discovery.kubernetes" };
    const pods = Object.fromEntries([...this.#pods].map(([name, { outcome }]) => [name, outcome]));
    return { ...this.#apis, pods };
  }

  /** Looks once. Never throws. */
  async look(): Promise<void> {
    const { context, discovery } = this.#parts;
    const pods = await this.#ask("pods_api", () => listPods(context, discovery.podsSocket));
    const gpus = await this.#ask("pod_resources", () => listPodGpus(context, discovery.podResourcesSocket));
    if (pods === undefined) return;
    await this.#follow(pods, gpus ?? []);
  }

  async #ask<T>(api: string, ask: () => Promise<readonly T[]>): Promise<readonly T[] | undefined> {
    try {
      const answer = await ask();
      this.#apis[api] = `answers, ${answer.length} pods or containers`;
      return answer;
    } catch (error) {
      this.#apis[api] = (error as Error).message;
      return undefined;
    }
  }

  async #follow(pods: readonly Pod[], gpus: readonly PodGpus[]): Promise<void> {
    const asking = new Map<string, { pod: Pod; wanted: NonNullable<ReturnType<typeof serverOfPod>> }>();
    for (const pod of pods) {
      const wanted = serverOfPod(pod, gpus);
      if (wanted === undefined || asking.size >= PODS_MAX) continue;
      asking.set(`${pod.namespace}/${pod.name}`, { pod, wanted });
    }
    // Those that are gone first: an address goes to the next pod.
    for (const name of [...this.#pods.keys()]) if (!asking.has(name)) await this.#forget(name);
    for (const [name, { pod, wanted }] of asking) {
      const fingerprint = "refused" in wanted ? wanted.refused : wanted.fingerprint;
      if (this.#pods.get(name)?.fingerprint !== fingerprint) await this.#forget(name);
      const known = this.#pods.get(name) ?? {
        fingerprint,
        outcome: "refused" in wanted ? wanted.refused : "not asked yet",
        nextAt: 0,
        waitNanos: RETRY_FIRST_NANOS,
      };
      this.#pods.set(name, known);
      if (!("refused" in wanted) && known.server === undefined) await this.#take(pod, wanted, known);
    }
  }

  async #forget(name: string): Promise<void> {
    const server = this.#pods.get(name)?.server;
    this.#pods.delete(name);
    if (server !== undefined) await this.#parts.pipeline.removeServer(server);
  }

  async #take(pod: Pod, wanted: PodServer, known: Known): Promise<void> {
    const { context } = this.#parts;
    const now = context.clock.now();
    if (now < known.nextAt) return;
    const taken = this.#alreadyRead(pod, wanted);
    if (taken !== undefined) {
      known.outcome = `read already as ${taken}`;
      return;
    }
    if (wanted.type !== undefined) {
      this.#open(pod, wanted.type, wanted.entry, "its annotation names the type", known);
      return;
    }
    const { found, tried } = await discoverServer(wanted.port, context, wanted.host);
    const type = found === undefined ? undefined : typeOf(found);
    if (found !== undefined && type !== undefined) {
      this.#open(pod, type, { ...wanted.entry, endpoint: found.endpoint }, found.why, known);
      return;
    }
    known.outcome = `no counters (${tried.join("; ")})`;
    known.nextAt = now + known.waitNanos;
    known.waitNanos = Math.min(RETRY_LONGEST_NANOS, 2 * known.waitNanos);
  }

  #open(
    pod: Pod,
    type: ServerType,
    entry: Readonly<Record<string, unknown>>,
    why: string,
    known: Known,
  ): void {
    const { context, pipeline, scrapeMs } = this.#parts;
    const place = `${pod.namespace}/${pod.name}`;
    const named = typeof entry["id"] === "string" ? entry["id"] : `${type.name}@${place}`;
    // Pods of one template share their annotations: the second of a name is told apart by its pod.
    const id = pipeline.intake.servers.has(named) ? `${named}@${place}` : named;
    const parsed = type.config.safeParse({ ...entry, id });
    if (!parsed.success) {
      known.outcome = `${type.name}: ${parsed.error.issues.map(({ message }) => message).join("; ")}`;
      known.nextAt = Number.POSITIVE_INFINITY;
      return;
    }
    known.server = type.open(parsed.data, { ...context, scrapeMs });
    known.outcome = `${type.name}: ${why}`;
    pipeline.addServer(known.server);
    context.log.info("server found", { source: `server:${id}`, type: type.name, why, pod: place });
  }

  /** The server that reads the same port: configured, or found behind a GPU process of a pod on the host's network. */
  #alreadyRead(pod: Pod, { host, port }: PodServer): string | undefined {
    return [...this.#parts.pipeline.intake.servers.values()].find(({ address }) => {
      if (portOf(address) !== port) return false;
      const bare = address.replace(/^[a-z]+:\/\//, "");
      return bare.startsWith(`${host}:`) || (pod.hostNetwork && /^(127\.|localhost|\[::1\])/.test(bare));
    })?.id;
  }
}
