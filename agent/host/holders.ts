// Whose a process is, by name: its pod and container, its Slurm job, container, systemd unit or user, the first that its
// cgroup names. Facts: cgroups(7); Slurm's cgroup plugin writes `job_<id>` below a folder named after it (slurm/…,
// slurmstepd.scope, v1 and v2); account and user of a job are in its environment, readable for its own user and root.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Holder } from "../model.ts";
import type { PodGpus } from "./kubelet/pod-resources.ts";
import type { Pod } from "./kubelet/pods.ts";
import type { ProcessReading } from "./processes.ts";

/** Services that start others' processes: what runs in their cgroup is not theirs. */
const CARRIERS = /^(user@\d+|docker|containerd|crio|kubelet|k3s|rke2.*|slurmd|ssh|sshd|cron|init)\.service$/;
const SHORT_ID = 12;

/** The holder of a process; undefined where neither its cgroup nor its user says anything. */
export function holderOf(reading: ProcessReading, pods: readonly Pod[], proc = "/proc"): Holder | undefined {
  const { cgroup, container, pod, uid, unit } = reading;
  if (pod !== undefined) return podHolder(pod, container, pods);
  const job = /slurm.*\/job_(\d+)/.exec(cgroup ?? "")?.[1];
  const user = uid === undefined ? undefined : userName(proc, uid);
  if (job !== undefined) {
    const environment = environmentOf(proc, reading.pid);
    const account = environment.get("SLURM_JOB_ACCOUNT");
    const owner = environment.get("SLURM_JOB_USER") ?? user;
    return {
      kind: "job",
      name: job,
      ...(account === undefined ? {} : { account }),
      ...(owner === undefined ? {} : { user: owner }),
    };
  }
  if (container !== undefined) return { kind: "container", name: container.slice(0, SHORT_ID) };
  if (unit !== undefined && !CARRIERS.test(unit)) return { kind: "unit", name: unit };
  return user === undefined ? undefined : { kind: "user", name: user, user };
}

/** The pods a GPU was given to, by GPU: what is known where no process list is. */
export function holdersByGpu(given: readonly PodGpus[]): ReadonlyMap<string, readonly Holder[]> {
  const byGpu = new Map<string, Holder[]>();
  for (const { container, gpus, namespace, pod } of given) {
    for (const gpu of gpus) {
      const holders = byGpu.get(gpu) ?? [];
      holders.push(named(namespace, pod, container));
      byGpu.set(gpu, holders);
    }
  }
  return byGpu;
}

function podHolder(uid: string, container: string | undefined, pods: readonly Pod[]): Holder {
  const pod = pods.find((one) => one.uid === uid);
  // A kubelet that does not answer leaves the uid, which kubectl knows too.
  if (pod === undefined) return { kind: "pod", name: uid };
  return named(
    pod.namespace,
    pod.name,
    pod.containers.find(({ id }) => container !== undefined && id?.endsWith(container))?.name,
  );
}

function named(namespace: string, pod: string, container: string | undefined): Holder {
  const name = [namespace, pod, ...(container === undefined ? [] : [container])].join("/");
  return { kind: "pod", name, namespace, pod, ...(container === undefined ? {} : { container }) };
}

function environmentOf(proc: string, pid: number): ReadonlyMap<string, string> {
  try {
    const words = readFileSync(join(proc, String(pid), "environ"), "utf8").split("\0");
    return new Map(
      words.map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]),
    );
  } catch {
    return new Map();
  }
}

/** The name of a user in the host's passwd file, else its number. Read through process 1 where /proc is the host's. */
function userName(proc: string, uid: number): string {
  for (const path of [join(proc, "1/root/etc/passwd"), "/etc/passwd"]) {
    try {
      const line = readFileSync(path, "utf8")
        .split("\n")
        .find((entry) => entry.split(":")[2] === String(uid));
      if (line !== undefined) return line.split(":")[0] ?? String(uid);
    } catch {
      // Not for this user to read.
    }
  }
  return String(uid);
}
