// What /proc says about processes: who they are, where they live, what they listen on. The facts behind rungs 2 to 4 of
// the placement ladder (METERING.md 4). Works without any capability: world-readable files, the caller's own and those
// of its uid; what rights do not allow stays undefined.
// Facts: proc(5), cgroups(7); cgroup names as systemd, Docker, containerd, CRI-O and the kubelet write them.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CommandLines, keepsAwake, portOfCommand, servingPortsOf, titleOf } from "./command-lines.ts";
import type { ListeningSocket } from "./sockets.ts";
import { HeldSockets, NamespaceSockets } from "./sockets.ts";

/** Facts about one process; the shape correlate/placement.ts takes. */
export interface ProcessReading {
  readonly pid: number;
  readonly name?: string;
  readonly uid?: number;
  readonly cgroup?: string;
  readonly unit?: string;
  readonly container?: string;
  readonly pod?: string;
  readonly parents?: readonly number[];
  readonly commandPort?: number;
  /** That, and ports of the command line's other flags for serving. */
  readonly servingPorts?: readonly number[];
  /** `here`: also where this program's own loopback is. */
  readonly listening?: readonly (ListeningSocket & { readonly here: boolean })[];
  readonly ownedPorts?: readonly number[];
  /** Being read keeps its model in memory. */
  readonly keepsAwake?: true;
  /** What an engine put in the place of its command line: `VLLM::EngineCore_DP1`, `sglang::scheduler_DP0_TP1`. */
  readonly title?: string;
}

const PARENTS_MAX = 16;
const PROCESSES_MAX = 4096;

/** What is looked for. */
export interface ProcessQuery {
  /** Processes that hold a GPU. */
  readonly pids: readonly number[];
  /** Ports of the servers: processes started with one of them as `--port` are read too. */
  readonly ports?: readonly number[];
}

/** Reads processes look by look; what hardly changes is not asked for at each. */
export class ProcessReader {
  readonly #proc: string;
  readonly #commandLines: CommandLines;
  readonly #held = new HeldSockets();
  #sockets: NamespaceSockets;

  /** `/proc` unless a test or a container mounts the host's elsewhere. */
  constructor(proc = "/proc") {
    this.#proc = proc;
    this.#commandLines = new CommandLines(proc);
    this.#sockets = new NamespaceSockets(proc);
  }

  /** Facts of the processes asked for, of their parents, and of those started with a server's port. Never throws. */
  read({ pids, ports }: ProcessQuery): ProcessReading[] {
    const proc = this.#proc;
    this.#sockets = new NamespaceSockets(proc);
    this.#held.begin();
    const wanted = new Set(pids);
    for (const pid of this.#commandLines.startedWith(new Set(ports ?? []))) wanted.add(pid);
    for (const pid of [...wanted]) for (const parent of parentsOf(proc, pid)) wanted.add(parent);
    if (wanted.size === 0) return [];
    const here = new Set((this.here() ?? []).map(({ inode }) => inode));
    return [...wanted].slice(0, PROCESSES_MAX).flatMap((pid) => this.#process(pid, here) ?? []);
  }

  /** The sockets where this program's own loopback is, as of the last look; undefined where they cannot be read. */
  here(): readonly ListeningSocket[] | undefined {
    return this.#sockets.of("self");
  }

  #process(pid: number, here: ReadonlySet<string>): ProcessReading | undefined {
    const folder = join(this.#proc, String(pid));
    const status = text(join(folder, "status"));
    if (status === undefined) return undefined;
    const uid = /^Uid:\s+(\d+)/m.exec(status)?.[1];
    const name = /^Name:\s+(.+)$/m.exec(status)?.[1];
    const sockets = this.#sockets.of(pid);
    const held = sockets === undefined ? undefined : this.#held.of(folder, sockets);
    const commandLine = text(join(folder, "cmdline")) ?? "";
    const commandPort = portOfCommand(commandLine);
    const servingPorts = servingPortsOf(commandLine);
    const title = titleOf(commandLine);
    const parents = parentsOf(this.#proc, pid);
    return {
      pid,
      ...homeOf(cgroupOf(text(join(folder, "cgroup")) ?? "")),
      ...(name === undefined ? {} : { name }),
      ...(uid === undefined ? {} : { uid: Number(uid) }),
      ...(parents.length === 0 ? {} : { parents }),
      ...(commandPort === undefined ? {} : { commandPort }),
      ...(servingPorts.length === 0 ? {} : { servingPorts }),
      ...(keepsAwake(commandLine.split("\0")) ? { keepsAwake: true } : {}),
      ...(title === undefined ? {} : { title }),
      ...(sockets === undefined
        ? {}
        : { listening: sockets.map((socket) => ({ ...socket, here: here.has(socket.inode) })) }),
      ...(sockets === undefined || held === undefined ? {} : { ownedPorts: portsOf(sockets, held) }),
    };
  }
}

function portsOf(sockets: readonly ListeningSocket[], held: ReadonlySet<string>): readonly number[] {
  return [...new Set(sockets.filter(({ inode }) => held.has(inode)).map(({ port }) => port))];
}

/** Parents of a process, nearest first, without process 1. */
function parentsOf(proc: string, pid: number): number[] {
  const parents: number[] = [];
  for (let current = pid; parents.length < PARENTS_MAX; ) {
    const status = text(join(proc, String(current), "status"));
    const parent = Number(/^PPid:\s+(\d+)/m.exec(status ?? "")?.[1] ?? 0);
    if (parent <= 1 || parents.includes(parent)) break;
    parents.push(parent);
    current = parent;
  }
  return parents;
}

/** First and last port the kernel gives to whoever names none; NCCL and torch listen there, servers do not. */
export function ephemeralPorts(proc = "/proc"): readonly [number, number] {
  const [first, last] = (text(join(proc, "sys/net/ipv4/ip_local_port_range")) ?? "").trim().split(/\s+/);
  return [Number(first) || 32_768, Number(last) || 60_999];
}

/**
 * The unified path of a /proc/PID/cgroup file, or on a version 1 host that of systemd's or the longest hierarchy.
 * Exported for its test: cgroup files of every runtime.
 */
export function cgroupOf(file: string): string | undefined {
  const lines = file.split("\n").flatMap((line) => {
    const match = /^(\d+):([^:]*):(\/.*)$/.exec(line);
    return match === null ? [] : [{ id: match[1], controllers: match[2], path: match[3] as string }];
  });
  const unified = lines.find((line) => line.id === "0" && line.path !== "/");
  const systemd = lines.find((line) => line.controllers === "name=systemd" && line.path !== "/");
  return (unified ?? systemd ?? lines.toSorted((a, b) => b.path.length - a.path.length)[0])?.path;
}

/** The unit, container and pod a cgroup path names. Exported for its test: cgroup files of every runtime. */
export function homeOf(
  path: string | undefined,
): Pick<ProcessReading, "cgroup" | "unit" | "container" | "pod"> {
  if (path === undefined) return {};
  const segments = path.split("/").filter((segment) => segment !== "");
  const unit = segments.findLast((segment) => segment.endsWith(".service"));
  const container = segments
    .map((segment) => /(?:^|[-_])([0-9a-f]{64})(?:\.scope)?$/.exec(segment)?.[1])
    .findLast((id) => id !== undefined);
  const pod = segments
    .map(
      (segment) =>
        /pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$/.exec(segment)?.[1],
    )
    .findLast((id) => id !== undefined);
  return {
    cgroup: path,
    ...(unit === undefined ? {} : { unit }),
    ...(container === undefined ? {} : { container }),
    ...(pod === undefined ? {} : { pod: pod.replaceAll("_", "-") }),
  };
}

function text(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
