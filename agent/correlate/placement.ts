// Which server does a GPU process belong to? The ladder of METERING.md 4: the first rung that answers, never a guess.
// 1 config or the server's own word (pids, gpus, unit, cgroup); 2 container, pod or unit of the endpoint; 3 the port is
// listened on in the process's network namespace under its uid, narrowed by --port and parents; 4 an owned socket.
// Facts about processes come in as plain data from host/; what they do not say stays unplaced and shows as `other`.
import type { Holder, ServerInfo } from "../model.ts";
import { rankOfTitle } from "./rank-places.ts";

/** What /proc says about one process: of the GPU processes, their parents, and whoever listens on a server's port. */
export interface ProcessFacts {
  readonly pid: number;
  /** Executable name. */
  readonly name?: string;
  readonly uid?: number;
  /** Path of the process in the unified cgroup tree. */
  readonly cgroup?: string;
  /** systemd unit, container id and pod uid read off the cgroup. */
  readonly unit?: string;
  readonly container?: string;
  readonly pod?: string;
  /** Parents, nearest first. */
  readonly parents?: readonly number[];
  /** `--port` of the command line. */
  readonly commandPort?: number;
  /**
   * TCP ports listened on in its network namespace, with the uid and inode of each socket; `here`: also where this
   * program's own loopback is.
   */
  readonly listening?: readonly {
    readonly port: number;
    readonly uid?: number;
    readonly inode?: string;
    readonly here?: boolean;
  }[];
  /** Ports of sockets it holds itself, where rights allow to see them. */
  readonly ownedPorts?: readonly number[];
  /** Whose it is, by name. */
  readonly holder?: Holder;
  /** What an engine named it: `VLLM::EngineCore_DP1`. */
  readonly title?: string;
}

/** What is known of a server beyond its configuration. */
export interface ServerHints {
  /** From the server's own readings. */
  readonly gpus?: readonly string[];
  readonly pids?: readonly number[];
  /** From the kubelet or the container runtime. */
  readonly container?: string;
  readonly pod?: string;
}

/** Rung of the ladder that answered. */
export type Rung = 1 | 2 | 3 | 4;

/** A process of a GPU and whose it is; `server` undefined = no rung answered, or two servers did. */
export interface Placed {
  readonly gpu: string;
  readonly pid: number;
  readonly server: string | undefined;
  readonly rung: Rung | undefined;
  readonly reason: string;
}

interface Candidate {
  readonly info: ServerInfo;
  readonly hints: ServerHints;
  readonly port: number | undefined;
}

/** Answers kept until servers or facts change; a host has a few hundred GPU processes at most. */
const pidsMax = 4096;

/** The ladder, with the last known servers and facts. */
export class Placement {
  #candidates: readonly Candidate[] = [];
  #facts: ReadonlyMap<number, ProcessFacts> = new Map();
  /** Ports that listen in several network namespaces. */
  readonly #manyPlaces = new Map<number, boolean>();
  readonly #byPid = new Map<number, Omit<Placed, "gpu" | "pid">>();
  /** The same, by GPU and process. */
  readonly #onGpu = new Map<string, Map<number, Placed>>();
  /** Counts every change of what is answered. */
  changes = 0;
  readonly #byGpu = new Map<string, readonly string[]>();
  #given: ReadonlyMap<string, readonly Holder[]> = new Map();

  /** Replaces the servers. */
  setServers(infos: readonly ServerInfo[], hints: ReadonlyMap<string, ServerHints>): void {
    this.#candidates = infos
      .filter((info) => info.family === "engine")
      .map((info) => ({ info, hints: withPod(info, hints.get(info.id)), port: info.port }));
    this.#byGpu.clear();
    this.#forgetAnswers();
  }

  /** Replaces the facts about processes. */
  setFacts(facts: readonly ProcessFacts[]): void {
    this.#facts = new Map(facts.map((fact) => [fact.pid, fact]));
    this.#manyPlaces.clear();
    this.#forgetAnswers();
  }

  #forgetAnswers(): void {
    this.#byPid.clear();
    this.#onGpu.clear();
    this.changes++;
  }

  /** Replaces what the kubelet says about who was given which GPU. */
  setGiven(given: ReadonlyMap<string, readonly Holder[]>): void {
    this.#given = given;
  }

  /** Whose a process is by name, if the host said so. */
  holderOf(pid: number): Holder | undefined {
    return this.#facts.get(pid)?.holder;
  }

  /** Who was given this GPU, or its board. */
  givenTo(gpu: string, parent: string | undefined): readonly Holder[] {
    return this.#given.get(gpu) ?? this.#given.get(parent ?? "") ?? [];
  }

  /** Executable name of a process, if the host said so. */
  nameOf(pid: number): string | undefined {
    return this.#facts.get(pid)?.name;
  }

  /** The data-parallel rank that a process, or the nearest of its parents, is named after. */
  rankOf(pid: number): string | undefined {
    const facts = this.#facts.get(pid);
    for (const each of facts === undefined ? [] : [pid, ...(facts.parents ?? [])]) {
      const rank = rankOfTitle(this.#facts.get(each)?.title);
      if (rank !== undefined) return rank;
    }
    return undefined;
  }

  /** Servers whose configuration or own readings name this GPU (or its board). */
  configured(gpu: string, parent: string | undefined): readonly string[] {
    const known = this.#byGpu.get(gpu);
    if (known !== undefined) return known;
    const servers = this.#candidates
      .filter(({ info, hints }) =>
        [...(info.gpus ?? []), ...(hints.gpus ?? [])].some((name) => name === gpu || name === parent),
      )
      .map(({ info }) => info.id);
    this.#byGpu.set(gpu, servers);
    return servers;
  }

  /** Returns whose each process of a GPU is, in the order given. */
  place(gpu: string, parent: string | undefined, pids: readonly number[]): Placed[] {
    const placed: Placed[] = [];
    for (const pid of pids) placed.push(this.#placedOn(gpu, pid));
    const configured = this.configured(gpu, parent);
    if (configured.length === 0) return placed;
    const waiting = configured.filter((server) => !placed.some((entry) => entry.server === server));
    const [only] = waiting;
    if (only === undefined || waiting.length > 1) return placed;
    return placed.map((entry) =>
      entry.server === undefined && entry.rung === undefined
        ? { ...entry, server: only, rung: 1, reason: "the GPU is configured for this server alone" }
        : entry,
    );
  }

  #placedOn(gpu: string, pid: number): Placed {
    let known = this.#onGpu.get(gpu);
    if (known === undefined) {
      known = new Map();
      this.#onGpu.set(gpu, known);
    }
    const answer = known.get(pid);
    if (answer !== undefined) return answer;
    if (known.size >= pidsMax) known.clear();
    const placed = { gpu, pid, ...this.#byProcess(pid) };
    known.set(pid, placed);
    return placed;
  }

  #byProcess(pid: number): Omit<Placed, "gpu" | "pid"> {
    const known = this.#byPid.get(pid);
    if (known !== undefined) return known;
    if (this.#byPid.size >= pidsMax) this.#byPid.clear();
    const answer = this.#climb(pid);
    this.#byPid.set(pid, answer);
    return answer;
  }

  #climb(pid: number): Omit<Placed, "gpu" | "pid"> {
    const facts = this.#facts.get(pid);
    for (const rung of [1, 2, 3, 4] as const) {
      let answers = this.#candidates.filter((candidate) =>
        answersOn(rung, candidate, pid, facts, this.#facts, (one) => this.#reaches(candidate, one)),
      );
      if (answers.length > 1 && rung === 3) answers = narrowed(answers, pid, facts, this.#facts);
      const [first] = answers;
      if (answers.length === 1 && first !== undefined)
        return { server: first.info.id, rung, reason: reasons[rung] };
      if (answers.length > 1) {
        const names = answers.map(({ info }) => info.id).join(", ");
        if (rung === 1)
          return { server: undefined, rung, reason: `configured for several servers: ${names}` };
      }
    }
    return { server: undefined, rung: undefined, reason: "no rung of the ladder answers" };
  }

  /**
   * Whether the server's address can lead to a process that listens on its port: not into another pod, and where the same
   * port listens in several network namespaces (containers, pods) only where this program itself would connect.
   */
  #reaches({ hints, port }: Candidate, facts: ProcessFacts): boolean {
    if (hints.pod !== undefined && facts.pod !== undefined) return hints.pod === facts.pod;
    if (port === undefined || !this.#inManyPlaces(port)) return true;
    return facts.listening?.some((socket) => socket.port === port && socket.here === true) ?? false;
  }

  #inManyPlaces(port: number): boolean {
    const known = this.#manyPlaces.get(port);
    if (known !== undefined) return known;
    const places = new Set<string>();
    for (const { listening = [] } of this.#facts.values()) {
      const inodes = listening.flatMap((socket) => (socket.port === port ? (socket.inode ?? []) : []));
      if (inodes.length > 0) places.add(inodes.sort().join());
    }
    this.#manyPlaces.set(port, places.size > 1);
    return places.size > 1;
  }
}

function withPod(info: ServerInfo, hints: ServerHints | undefined): ServerHints {
  return { ...(info.pod?.uid === undefined ? {} : { pod: info.pod.uid }), ...hints };
}

const reasons: Readonly<Record<Rung, string>> = {
  1: "configured, or named by the server itself",
  2: "in the container, pod or unit of the endpoint",
  3: "the endpoint's port listens in its network namespace under its uid",
  4: "it holds the endpoint's socket",
};

function answersOn(
  rung: Rung,
  { info, hints, port }: Candidate,
  pid: number,
  facts: ProcessFacts | undefined,
  all: ReadonlyMap<number, ProcessFacts>,
  reaches: (facts: ProcessFacts) => boolean,
): boolean {
  if (rung === 1) {
    const named = [...(info.pids ?? []), ...(hints.pids ?? [])];
    if (named.includes(pid) || facts?.parents?.some((parent) => named.includes(parent))) return true;
    if (info.unit !== undefined && facts?.unit === info.unit) return true;
    return info.cgroup !== undefined && within(facts?.cgroup, info.cgroup);
  }
  if (facts === undefined) return false;
  if (rung === 2) return sharesHome(facts, hints, port, all, reaches);
  if (port === undefined || !reaches(facts)) return false;
  if (rung === 3) return listens(facts, port);
  return facts.ownedPorts?.includes(port) ?? false;
}

/** The process lives in the container, pod or unit of the endpoint, or of the process that owns the endpoint's socket. */
function sharesHome(
  facts: ProcessFacts,
  hints: ServerHints,
  port: number | undefined,
  all: ReadonlyMap<number, ProcessFacts>,
  reaches: (owner: ProcessFacts) => boolean,
): boolean {
  if (hints.container !== undefined && facts.container === hints.container) return true;
  if (hints.pod !== undefined && facts.pod === hints.pod) return true;
  if (port === undefined) return false;
  for (const owner of all.values()) {
    if (!owner.ownedPorts?.includes(port) || !reaches(owner)) continue;
    if (owner.container !== undefined && owner.container === facts.container) return true;
    if (owner.pod !== undefined && owner.pod === facts.pod) return true;
    if (owner.unit !== undefined && owner.unit === facts.unit && owner.unit.endsWith(".service")) return true;
  }
  return false;
}

function listens(facts: ProcessFacts, port: number): boolean {
  return (facts.listening ?? []).some(
    (socket) =>
      socket.port === port &&
      (socket.uid === undefined || facts.uid === undefined || socket.uid === facts.uid),
  );
}

/** Several servers listen in one namespace under one uid: `--port` of the process or of a parent says which. */
function narrowed(
  answers: readonly Candidate[],
  pid: number,
  facts: ProcessFacts | undefined,
  all: ReadonlyMap<number, ProcessFacts>,
): Candidate[] {
  for (const relative of [pid, ...(facts?.parents ?? [])]) {
    const port = all.get(relative)?.commandPort;
    const match = port === undefined ? [] : answers.filter((answer) => answer.port === port);
    if (match.length > 0) return match;
  }
  return [...answers];
}

/** True when `path` is `root` or below it. */
function within(path: string | undefined, root: string): boolean {
  if (path === undefined) return false;
  const trimmed = root.endsWith("/") ? root.slice(0, -1) : root;
  return trimmed !== "" && (path === trimmed || path.startsWith(`${trimmed}/`));
}
