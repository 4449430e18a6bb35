// Whether the driver's control node is there and may be opened, before any library is looked for. A cgroup that denies a
// device refuses even access(2) of its node, so existsSync() calls it absent: stat(2) does not ask the cgroup.
// systemd resolves DeviceAllow=char-nvidia* when the unit starts (systemd.resource-control(5)): nodes of a driver that was
// loaded later stay denied until the unit starts again.
// Devices released for a driver upgrade are taken again once the driver's module was unloaded and is back, or after too
// long a time: opening one earlier would stop the driver from unloading.
import { closeSync, constants, existsSync, openSync, statSync } from "node:fs";
import type { Nanos } from "../../model.ts";
import { NANOS_PER_MS } from "../../platform/clock.ts";

const DRIVER_MODULE = "/sys/module/nvidia";
/** /dev/dxg is the driver's node under WSL. */
const CONTROL_NODES = ["/dev/nvidiactl", "/dev/dxg"] as const;

/** Why no GPU can be read. */
export interface MissingDevice {
  readonly reason: string;
  /** A new start of this process is the cure. */
  readonly restart: boolean;
  readonly hint: string;
}

const NO_NODE =
  "on a GPU host load the driver (`modprobe nvidia`) and run `nvidia-modprobe -c 0`; in a container use the NVIDIA " +
  "runtime with NVIDIA_DRIVER_CAPABILITIES=utility. Without a GPU tokens are still counted, GPU time is not";

/** What is wrong with the nodes; undefined when one can be opened, or when only the library can say more. */
export function missingDevice(nodes: readonly string[] = CONTROL_NODES): MissingDevice | undefined {
  const node = nodes.find((path) => statSync(path, { throwIfNoEntry: false }) !== undefined);
  if (node === undefined)
    return { reason: `no NVIDIA device: ${nodes[0]} does not exist`, restart: false, hint: NO_NODE };
  return judgeRefusal(node, openError(node), statSync(node).ctimeMs > performance.timeOrigin);
}

/**
 * The verdict on an error of open(2); `younger`: the node was made after this process had started.
 * Exported for its test: no host refuses in every way.
 */
export function judgeRefusal(
  node: string,
  code: string | undefined,
  younger: boolean,
): MissingDevice | undefined {
  if (code === "EACCES") {
    const reason = `${node} may not be opened (EACCES): this user is not in the group that owns it`;
    return { reason, restart: false, hint: "add this user to that group (often video or render)" };
  }
  if (code !== "EPERM") return undefined;
  const cure = younger
    ? "the driver came after the agent, which starts again"
    : "restart the unit or the pod";
  return {
    reason: `${node} may not be opened (EPERM): the device cgroup denies it; ${cure}`,
    restart: younger,
    hint:
      "under systemd restart the unit after the driver is loaded; in a container pass the devices in again, they are " +
      "lost by `systemctl daemon-reload`",
  };
}

function openError(node: string): string | undefined {
  try {
    closeSync(openSync(node, constants.O_RDWR | constants.O_NONBLOCK));
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

/** One release. */
export class ReleasedDevices {
  readonly #since: Nanos;
  readonly #hadModule = existsSync(DRIVER_MODULE);
  #unloaded = false;

  constructor(since: Nanos) {
    this.#since = since;
  }

  /** Whether the devices may be taken again. */
  isOver(now: Nanos, mostMs: number): boolean {
    const loaded = existsSync(DRIVER_MODULE);
    if (this.#hadModule && !loaded) this.#unloaded = true;
    return (this.#unloaded && loaded) || now - this.#since > mostMs * NANOS_PER_MS;
  }
}
