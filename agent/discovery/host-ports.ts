// Which ports of this host may be a server's: those GPU processes or their parents were started with, hold themselves, or
// listen on under their uid at a port engines are known to use. The last needs no capability (METERING.md 4, rung 3);
// sockets of other users' processes cannot be seen without one. Ports that cannot be asked on loopback are named with the reason.
import type { ProcessReading } from "../host/processes.ts";
import type { ListeningSocket } from "../host/sockets.ts";

/** A port a GPU process may serve on. */
export interface PortCandidate {
  readonly port: number;
  /** GPU processes and parents it was learned from. */
  readonly pids: readonly number[];
  /** How it was learned. */
  readonly from: string;
  /** Why it is not asked; `waiting` = nothing listens yet. */
  readonly not?: { readonly state: "waiting" | "refused" | "off"; readonly why: string };
  /** Who listens here, so that another one is noticed. */
  readonly inodes: string;
}

/** What is known of the ports of a GPU process. */
export interface PortFacts {
  readonly readings: readonly ProcessReading[];
  /** Processes that hold a GPU. */
  readonly pids: readonly number[];
  /** Sockets where this program's own loopback is; undefined where they cannot be read. */
  readonly here: readonly ListeningSocket[] | undefined;
  readonly usual: readonly number[];
  readonly ephemeral: readonly [number, number];
}

/** Ports that may be asked or are known, by number. */
export function candidatePorts(facts: PortFacts): ReadonlyMap<number, PortCandidate> {
  const { pids, readings } = facts;
  const homes = homesOf(readings, new Set(pids));
  const found = new Map<number, PortCandidate>();
  for (const reading of readings) {
    const homesHere = homes.get(reading.pid);
    if (homesHere === undefined) continue;
    const holdsGpu = pids.includes(reading.pid);
    for (const [port, from] of portsOf(reading, facts, holdsGpu, homesHere.has(reading.cgroup))) {
      const known = found.get(port);
      const candidate = judge(port, from, reading, facts);
      // One process that can be asked there is enough.
      const first = known === undefined || (known.not !== undefined && candidate.not === undefined);
      found.set(port, { ...(first ? candidate : known), pids: [...(known?.pids ?? []), reading.pid] });
    }
  }
  return found;
}

/** GPU processes and their parents, with the cgroups of the GPU processes they stand for. */
function homesOf(
  readings: readonly ProcessReading[],
  holders: ReadonlySet<number>,
): ReadonlyMap<number, ReadonlySet<string | undefined>> {
  const homes = new Map<number, Set<string | undefined>>();
  for (const { cgroup, parents, pid } of readings) {
    if (!holders.has(pid)) continue;
    for (const member of [pid, ...(parents ?? []).filter((parent) => parent > 1)]) {
      homes.set(member, (homes.get(member) ?? new Set()).add(cgroup));
    }
  }
  return homes;
}

function portsOf(
  reading: ProcessReading,
  { ephemeral: [first, last], usual }: PortFacts,
  holdsGpu: boolean,
  sameHome: boolean,
): ReadonlyMap<number, string> {
  const ports = new Map<number, string>();
  const name = `process ${reading.pid}${reading.name === undefined ? "" : ` (${reading.name})`}`;
  const listening = reading.listening ?? [];
  if (holdsGpu) {
    for (const { here, port, uid } of listening) {
      const own = uid === reading.uid && usual.includes(port);
      if (own && here) ports.set(port, `the user of ${name} listens there`);
    }
  }
  // A parent outside its cgroup is a shell's session or a container's runtime: sshd holds port 22.
  for (const port of sameHome ? (reading.ownedPorts ?? []) : []) {
    if (port < first || port > last) ports.set(port, `${name} listens there`);
  }
  const named = reading.servingPorts ?? (reading.commandPort === undefined ? [] : [reading.commandPort]);
  for (const port of named) if (port > 0) ports.set(port, `${name} was started with it`);
  return ports;
}

function judge(port: number, from: string, reading: ProcessReading, facts: PortFacts): PortCandidate {
  const listeners = (facts.here ?? []).filter((socket) => socket.port === port);
  const inodes = listeners
    .map(({ inode }) => inode)
    .sort()
    .join();
  const base = { port, pids: [], from, inodes };
  const not = (state: "waiting" | "refused" | "off", why: string): PortCandidate => ({
    ...base,
    not: { state, why: `${from}, but ${why}` },
  });
  if (reading.keepsAwake === true) {
    return not("refused", "reading it would keep its model awake (--sleep-idle-seconds)");
  }
  if (facts.here === undefined) return base;
  if (listeners.length === 0) {
    const elsewhere = (reading.listening ?? []).some((socket) => socket.port === port && !socket.here);
    if (!elsewhere) return not("waiting", "nothing listens on it yet");
    return reading.pod === undefined
      ? not("refused", "in a network namespace of its own, which loopback does not reach")
      : not("off", "in a pod, which is found through the kubelet");
  }
  if (listeners.every(({ address }) => address === "other")) {
    return not("refused", "it listens on another address than loopback");
  }
  return base;
}
