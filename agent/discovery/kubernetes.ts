// Servers in pods of this node, kept in step with the kubelet: those annotations `tokenwatt.io/*` ask for, and those in
// containers that were given GPUs. Two unix sockets, no right in the cluster: the Pods API names pods, annotations and
// ports, pod-resources their GPUs; older kubelets are asked over HTTPS where that is configured. Where there is no kubelet
// this costs two looks at a path every 15 s. While the kubelet does not answer, what is known stays.

import type { Config } from "../config/load.ts";
import { openServer } from "../config/open-server.ts";
import type { PodGpus } from "../host/kubelet/pod-resources.ts";
import { listPodGpus } from "../host/kubelet/pod-resources.ts";
import type { Pod } from "../host/kubelet/pods.ts";
import { listPods, listPodsByHttps } from "../host/kubelet/pods.ts";
import type { Nanos } from "../model.ts";
import type { Cancel } from "../platform/clock.ts";
import { every } from "../platform/clock.ts";
import type { ServerSource, ServerType, SourceContext, SourceError } from "../source.ts";
import { discoverAmong, typeOf } from "./ask.ts";
import type { Outcome, ServerTaker } from "./places.ts";
import { isOf, isTwin, letGo, Place, stepBack, takeIn, twinOf, unreadOf } from "./places.ts";
import type { PodServer, PodTarget } from "./pods.ts";
import { billedBy, targetsOf } from "./pods.ts";

const LOOK_MS = 15_000;
/** Places in pods; more are left out and said. */
const TARGETS_MAX = 500;
/** A look asks no further place once it has taken this long; those not asked come first in the next one. */
const LOOK_NANOS_MAX = 10e9;
/** How long configured servers may take to be read before others are looked for. */
const PATIENCE_NANOS = 60e9;

/** What the watch works with. */
export interface KubernetesWatchParts {
  readonly context: SourceContext;
  readonly pipeline: ServerTaker;
  readonly discovery: Config["discovery"];
  readonly scrapeMs: number;
}

/** What one of the kubelet's APIs said last. */
export interface ApiOutcome {
  readonly ok: boolean;
  /** There is no such API here. */
  readonly absent?: true;
  readonly why: string;
  /** What to do about it. */
  readonly hint?: string;
}

class PodPlace extends Place {
  readonly uid: string;
  readonly fingerprint: string;
  readonly gpus: string;
  #instance: string;

  constructor({ pod, server }: PodTarget) {
    super();
    this.uid = pod.uid;
    this.fingerprint = "refused" in server ? server.refused : server.fingerprint;
    this.gpus = gpusOf(server);
    this.#instance = instanceOf(server);
  }

  /** Notes who runs there now; a restarted container may run another server. */
  runs({ server }: PodTarget): void {
    const instance = instanceOf(server);
    if (instance === "" || instance === this.#instance) return;
    if (this.#instance !== "") this.askAnew();
    this.#instance = instance;
  }
}

/** What `status()` returns. */
export interface KubernetesStatus {
  readonly from: Config["discovery"]["kubernetes"];
  readonly pods_api?: ApiOutcome;
  readonly pod_resources?: ApiOutcome;
  readonly kubelet_https?: ApiOutcome;
  /** By `namespace/pod`, or `namespace/pod/container`. */
  readonly pods?: Readonly<Record<string, Outcome>>;
  /** Places beyond the most that are looked at. */
  readonly left_out?: number;
}

type Api = "pods_api" | "pod_resources" | "kubelet_https";

/** Watches the pods of this node until stopped. */
export class KubernetesWatch {
  readonly #parts: KubernetesWatchParts;
  /** By the name of the target. */
  readonly #places = new Map<string, PodPlace>();
  readonly #apis: Partial<Record<Api, ApiOutcome>> = {};
  readonly #patientUntil: Nanos;
  #leftOut = 0;
  #cancel: Cancel = () => {};

  /** Running pods and containers with GPUs as they were listed last; empty while the kubelet does not answer. */
  pods: readonly Pod[] = [];
  given: readonly PodGpus[] = [];

  constructor(parts: KubernetesWatchParts) {
    this.#parts = parts;
    this.#patientUntil = parts.context.clock.now() + PATIENCE_NANOS;
  }

  start(): void {
    const { context, discovery } = this.#parts;
    if (discovery.kubernetes === "off") return;
    this.#cancel = every(context.clock, LOOK_MS, () => this.look(), context.clock.now());
  }

  stop(): void {
    this.#cancel();
  }

  /** What the kubelet answered, and what became of each place in its pods; for `/-/status` and `doctor`. */
  status(): KubernetesStatus {
    const from = this.#parts.discovery.kubernetes;
    if (from === "off") return { from };
    const pods: Record<string, Outcome> = {};
    for (const [name, { outcome }] of this.#places) pods[name] = outcome;
    return { from, ...this.#apis, pods, ...(this.#leftOut > 0 ? { left_out: this.#leftOut } : {}) };
  }

  /** Looks once. Never throws. */
  async look(): Promise<void> {
    const { context, discovery } = this.#parts;
    const { kubelet } = discovery;
    const gpus = await this.#ask("pod_resources", () => listPodGpus(context, discovery.podResourcesSocket));
    const pods =
      (await this.#ask("pods_api", () => listPods(context, discovery.podsSocket))) ??
      (kubelet === undefined
        ? undefined
        : await this.#ask("kubelet_https", () => listPodsByHttps(context, kubelet)));
    if (gpus !== undefined) this.given = gpus;
    if (pods !== undefined) this.pods = pods;
    if (pods !== undefined) await this.#follow(pods, gpus);
  }

  async #ask<T>(api: Api, ask: () => Promise<readonly T[]>): Promise<readonly T[] | undefined> {
    try {
      const answer = await ask();
      const what = api === "pod_resources" ? "containers with GPUs" : "running pods";
      this.#apis[api] = { ok: true, why: `answers, ${answer.length} ${what}` };
      return answer;
    } catch (error) {
      const { hint, kind, message } = error as SourceError;
      this.#apis[api] = {
        ok: false,
        ...(kind === "absent" ? { absent: true } : {}),
        why: message,
        ...(hint === undefined ? {} : { hint }),
      };
      return undefined;
    }
  }

  /** `gpus` undefined: not known now. Places in GPU containers that were known then stay. */
  async #follow(pods: readonly Pod[], gpus: readonly PodGpus[] | undefined): Promise<void> {
    const from = this.#parts.discovery.kubernetes === "annotations" ? "annotations" : "auto";
    const all = pods.flatMap((pod) => targetsOf(pod, gpus ?? [], from, this.#parts.discovery));
    // Whoever asked for it comes first.
    const targets = all.toSorted((a, b) => Number(asked(b)) - Number(asked(a))).slice(0, TARGETS_MAX);
    this.#leftOut = all.length - targets.length;
    const wanted = new Set(targets.map(({ name }) => name));
    const running = new Set(pods.map(({ uid }) => uid));
    // Those that are gone first: an address goes to the next pod.
    for (const [name, { uid }] of [...this.#places]) {
      const stays = gpus === undefined && running.has(uid);
      if (!wanted.has(name) && !stays) await this.#forget(name);
    }
    const { clock } = this.#parts.context;
    const end = clock.now() + LOOK_NANOS_MAX;
    const unread = clock.now() < this.#patientUntil ? unreadOf(this.#parts.pipeline.intake) : undefined;
    for (const target of targets) {
      const place = await this.#placeOf(target, gpus !== undefined);
      const { server } = target;
      if ("refused" in server) {
        place.notAsked(server.wanted ? "refused" : "off", server.refused);
        continue;
      }
      if (place.server !== undefined) await this.#compare(target.pod, server, place.server, place);
      else if (unread !== undefined && !server.asked) {
        place.notAsked("waiting", `not asked before ${unread} was read, which may be the same server`);
        continue;
      }
      if (place.due(clock) && clock.now() < end) await this.#take(target.pod, server, place);
    }
  }

  /** The place of a target; a new one where what the pod says has changed. */
  async #placeOf(target: PodTarget, gpusKnown: boolean): Promise<PodPlace> {
    const { name } = target;
    const place = new PodPlace(target);
    const known = this.#places.get(name);
    if (known?.fingerprint === place.fingerprint && (known.gpus === place.gpus || !gpusKnown)) {
      known.runs(target);
      return known;
    }
    await this.#forget(name);
    this.#places.set(name, place);
    return place;
  }

  async #forget(name: string): Promise<void> {
    const place = this.#places.get(name);
    this.#places.delete(name);
    if (place !== undefined) await letGo(place, this.#parts.pipeline);
  }

  async #take(pod: Pod, wanted: PodServer, place: Place): Promise<void> {
    const { context, pipeline } = this.#parts;
    const { asked, gpus, host, ports, type } = wanted;
    const entry = gpus.length === 0 ? wanted.entry : { ...wanted.entry, gpus };
    for (const port of ports) {
      const reader = this.#alreadyRead(pod, host, port, place.server);
      if (reader === undefined) continue;
      await letGo(place, pipeline);
      place.notAsked("known", `read already as ${reader}`, reader);
      return;
    }
    if (type !== undefined) {
      await this.#open(pod, type, entry, "its annotation names the type", place);
      return;
    }
    const discovery = await discoverAmong(ports, context, host, asked);
    const { found } = discovery;
    const foundType = found === undefined ? undefined : typeOf(found);
    if (found === undefined || foundType === undefined) place.inVain(discovery, context.clock);
    else if (wanted.enginesOnly && foundType.family === "gateway")
      place.notAsked("refused", billedBy(pod, `a gateway (${found.type})`));
    else if (!place.stays(found, context.clock))
      await this.#open(pod, foundType, { ...entry, endpoint: found.endpoint }, found.why, place, !asked);
  }

  /** Lets a server go where one that was configured since reads its port, or turns out to count the same. */
  async #compare(pod: Pod, { asked, host }: PodServer, source: ServerSource, place: Place): Promise<void> {
    const { context, pipeline } = this.#parts;
    const { info } = source;
    const reader = this.#alreadyRead(pod, host, info.port ?? 0, source);
    const sample = asked ? undefined : pipeline.intake.lastTokenSamples.get(info.id);
    const twin =
      reader === undefined
        ? twinOf(info, sample, pipeline.intake)
        : { server: reader, why: `read already as ${reader}` };
    if (twin !== undefined) await stepBack(place, twin, pipeline, context.clock);
  }

  async #open(
    pod: Pod,
    type: ServerType,
    entry: Readonly<Record<string, unknown>>,
    why: string,
    place: Place,
    compare = false,
  ): Promise<void> {
    const { context, pipeline, scrapeMs } = this.#parts;
    const where = `${pod.namespace}/${pod.name}`;
    const named = typeof entry["id"] === "string" ? entry["id"] : `${type.name}@${where}`;
    const others = [...pipeline.intake.servers.keys()].filter((id) => id !== place.server?.info.id);
    const id = freeId(named, where, new Set(others));
    const parsed = type.config.safeParse({ ...entry, id });
    if (!parsed.success) {
      await letGo(place, pipeline);
      place.unusable(`${type.name}: ${parsed.error.issues.map(({ message }) => message).join("; ")}`);
      return;
    }
    const source = openServer(type, parsed.data, { ...context, scrapeMs });
    if (compare && (await isTwin(source, place, pipeline, context.clock))) return;
    await takeIn(source, place, { why, pod: where }, { log: context.log, pipeline });
  }

  /** The server that reads the same port: configured, or found behind a GPU process of a pod on the host's network. */
  #alreadyRead(pod: Pod, host: string, port: number, own?: ServerSource): string | undefined {
    return [...this.#parts.pipeline.intake.servers.values()].find(({ address, id, port: taken }) => {
      if (taken !== port || isOf(own, id)) return false;
      const bare = address.replace(/^[a-z]+:\/\//, "");
      return bare.startsWith(`${host}:`) || (pod.hostNetwork && /^(127\.|localhost|\[::1\])/.test(bare));
    })?.id;
  }
}

function gpusOf(server: PodTarget["server"]): string {
  return "refused" in server ? "" : server.gpus.join();
}

/** Empty where nothing of it may be another server's by now: its type is given, or nothing says so. */
function instanceOf(server: PodTarget["server"]): string {
  return "refused" in server || server.type !== undefined ? "" : server.instance;
}

function asked({ server }: PodTarget): boolean {
  return "refused" in server || server.asked;
}

/** Pods of one template share their annotations, containers of one pod its name: the second of a name gets its own. */
function freeId(named: string, where: string, servers: ReadonlySet<string>): string {
  if (!servers.has(named)) return named;
  const base = named.endsWith(`@${where}`) ? named : `${named}@${where}`;
  if (!servers.has(base)) return base;
  for (let number = 2; ; number++) if (!servers.has(`${base}#${number}`)) return `${base}#${number}`;
}
