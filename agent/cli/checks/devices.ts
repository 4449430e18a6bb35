// gpu.devices: whether this user may open the driver's device nodes.
// The nodes are mode 0666 by default, 0660 root:video on SUSE; cgroups (systemd's DeviceAllow, container runtimes) can
// deny what the mode allows, and then only an open shows it.
import { closeSync, constants, openSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Check, CheckContext, Finding } from "./check.ts";
import { kernelDriverVersion, nvidiaCards } from "./driver.ts";

const ID = "gpu.devices";

/** Opens every device node of the driver. */
export const devicesCheck: Check = { ids: [ID], run: async (context) => [judgeDevices(context)] };

function judgeDevices({ root }: CheckContext): Finding {
  const nodes = deviceNodes(root);
  if (nodes.length === 0) {
    if (kernelDriverVersion(root) === undefined)
      return { id: ID, verdict: "skip", seen: "no driver, no device nodes" };
    return {
      id: ID,
      verdict: "fail",
      seen: "the driver is loaded, but there is no /dev/nvidia* here",
      remedy:
        "on a host run `nvidia-modprobe -c 0`; in a container give it the devices: the NVIDIA runtime class with " +
        "NVIDIA_VISIBLE_DEVICES=all, or CDI device management.nvidia.com/gpu=all",
    };
  }
  const driver = kernelDriverVersion(root);
  const onlyControl = nodes.every((node) => node.endsWith("/nvidiactl"));
  if (onlyControl && driver === undefined && nvidiaCards(root).length === 0) {
    // The driver's library makes the control node when it is asked for GPUs, on hosts without one too.
    const seen = `no NVIDIA GPU and no driver; ${nodes.join(", ")} is left by the driver's library`;
    return { id: ID, verdict: "skip", seen, facts: { nodes } };
  }
  const refused = nodes.flatMap((node) => {
    const error = openError(node);
    return error === undefined ? [] : [{ node, error }];
  });
  const facts = { nodes };
  if (refused.length === 0)
    return { id: ID, verdict: "ok", seen: `${nodes.length} device nodes can be opened`, facts };
  const [first] = refused;
  return {
    id: ID,
    verdict: "fail",
    seen: `${refused.length} of ${nodes.length} device nodes cannot be opened: ${first?.node}: ${first?.error}`,
    remedy: REMEDIES[first?.error ?? ""] ?? "look at the driver's messages: `dmesg | grep -i nvrm`",
    facts: { ...facts, refused },
  };
}

const REMEDIES: Readonly<Record<string, string>> = {
  EACCES: "add this user to the group that owns /dev/nvidia* (often video or render)",
  EPERM:
    "the cgroup denies the device: under systemd restart the unit after the driver is loaded (DeviceAllow=char-nvidia* " +
    "is resolved at its start); in a container pass the devices in again, they are lost by `systemctl daemon-reload`",
  ENXIO: "the driver has no device behind the node: reload the driver or look for XID messages in `dmesg`",
  EIO: "the GPU fell off the bus or the driver failed to initialise it: look for XID messages in `dmesg`",
};

function deviceNodes(root: string): string[] {
  try {
    return readdirSync(join(root, "dev"))
      .filter((name) => /^nvidia(\d+|ctl)$/.test(name))
      .map((name) => join(root, "dev", name));
  } catch {
    return [];
  }
}

function openError(node: string): string | undefined {
  try {
    closeSync(openSync(node, constants.O_RDWR | constants.O_NONBLOCK));
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "error";
  }
}
