// Facts about the host for resource attributes, through systeminformation in a short-lived process of its own: the
// package shells out, has no timeout and cannot be cancelled, so process and group are killed after 5 s.
// What it does not answer comes from node:os and /etc/machine-id.
import { readFileSync } from "node:fs";
import { arch, hostname, release } from "node:os";
import { fileURLToPath } from "node:url";
import type { Clock } from "../clock.ts";
import { askModule } from "../process.ts";

const TIMEOUT_MS = 5000;

/** What is fixed about this host; absent = it does not say. */
export interface HostFacts {
  readonly hostName: string;
  /** /etc/machine-id, hashed by nobody: the OpenTelemetry `host.id` of a Linux host. */
  readonly hostId?: string;
  /** OpenTelemetry spelling: amd64, arm64. */
  readonly hostArch: string;
  readonly osVersion?: string;
  readonly osDescription?: string;
  readonly kernelVersion: string;
  readonly cpuModel?: string;
  readonly cpuCount?: number;
  readonly memoryBytes?: number;
  /** Machine maker and product, e.g. "Dell Inc. PowerEdge XE9680". */
  readonly machine?: string;
  readonly virtual?: boolean;
}

/** What the child reports. */
export type ReportedFacts = Partial<
  Pick<
    HostFacts,
    "osVersion" | "osDescription" | "cpuModel" | "cpuCount" | "memoryBytes" | "machine" | "virtual"
  >
>;

/** The host's facts; never fails and takes at most 5 s. */
export async function readHostFacts(clock: Clock): Promise<HostFacts> {
  const module = fileURLToPath(new URL("./host-inventory-child.ts", import.meta.url));
  const reported = ((await askModule(clock, module, TIMEOUT_MS)) ?? {}) as ReportedFacts;
  const hostId = machineId();
  return {
    ...reported,
    hostName: hostname(),
    hostArch: arch() === "x64" ? "amd64" : arch(),
    kernelVersion: release(),
    ...(hostId === undefined ? {} : { hostId }),
  };
}

function machineId(): string | undefined {
  for (const path of ["/etc/machine-id", "/var/lib/dbus/machine-id"]) {
    try {
      const id = readFileSync(path, "utf8").trim();
      if (id !== "") return id;
    } catch {
      // Minimal containers have none.
    }
  }
  return undefined;
}
