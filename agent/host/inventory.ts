// Facts about the host. Its identity, for resource attributes, comes from node:os, /etc/machine-id and /etc/os-release
// (os-release(5)) in an instant: nothing is exported before it is known. What kind of machine it is comes through
// systeminformation in a short-lived process of its own: the package shells out, has no timeout and cannot be cancelled,
// so process and group are killed after 5 s.
import { readFileSync } from "node:fs";
import { arch, hostname, release } from "node:os";
import { fileURLToPath } from "node:url";
import type { Clock } from "../platform/clock.ts";
import { askModule } from "../platform/process.ts";

const TIMEOUT_MS = 5000;

/** Who this host is; absent = it does not say. */
export interface HostIdentity {
  readonly hostName: string;
  /** /etc/machine-id, as it is: the OpenTelemetry `host.id` of a Linux host. */
  readonly hostId?: string;
  /** OpenTelemetry spelling: amd64, arm64. */
  readonly hostArch: string;
  readonly osDescription?: string;
  readonly kernelVersion: string;
}

/** What kind of machine it is; absent = it does not say. */
export interface HostInventory {
  readonly osVersion?: string;
  readonly cpuModel?: string;
  readonly cpuCount?: number;
  readonly memoryBytes?: number;
  /** Machine maker and product, e.g. "Dell Inc. PowerEdge XE9680". */
  readonly machine?: string;
  readonly virtual?: boolean;
}

/** Who this host is; never fails and waits for nothing. */
export function hostIdentity(): HostIdentity {
  const hostId = machineId();
  const osDescription = readOsDescription();
  return {
    hostName: hostname(),
    hostArch: arch() === "x64" ? "amd64" : arch(),
    kernelVersion: release(),
    ...(hostId === undefined ? {} : { hostId }),
    ...(osDescription === undefined ? {} : { osDescription }),
  };
}

/** What kind of machine this is; never fails and takes at most 5 s. */
export async function readHostInventory(clock: Clock): Promise<HostInventory> {
  const module = fileURLToPath(new URL("./child/main.ts", import.meta.url));
  return ((await askModule(clock, module, TIMEOUT_MS)) ?? {}) as HostInventory;
}

/**
 * Name and version of an os-release file, without the code name behind them: "Debian GNU/Linux 12".
 * Exported for its test: files of every distribution.
 */
export function osDescriptionOf(osRelease: string): string | undefined {
  const quoted = /^PRETTY_NAME=(.*)$/m.exec(osRelease)?.[1] ?? "";
  const name = quoted.trim().replace(/^(["'])(.*)\1$/, "$2");
  return name.replace(/ \([^)]*\)$/, "") || undefined;
}

function readOsDescription(): string | undefined {
  for (const path of ["/etc/os-release", "/usr/lib/os-release"]) {
    try {
      return osDescriptionOf(readFileSync(path, "utf8"));
    } catch {
      // Minimal containers have none.
    }
  }
  return undefined;
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
