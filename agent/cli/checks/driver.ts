// gpu.driver: whether the kernel's NVIDIA driver is loaded, and whether there is a GPU for it.
// Facts: /proc/driver/nvidia/version ("NVRM version: ... Kernel Module  580.95.05  ..."), PCI vendor 0x10de with a
// display class (0x03xxxx) in /sys/bus/pci/devices. A container has both where the host has them.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Check, CheckContext, Finding } from "./check.ts";

const ID = "gpu.driver";

/** Compares the loaded driver with the PCI bus. */
export const driverCheck: Check = { ids: [ID], run: async (context) => [judgeDriver(context)] };

function judgeDriver({ root }: CheckContext): Finding {
  const version = kernelDriverVersion(root);
  const cards = nvidiaCards(root);
  const facts = { ...(version === undefined ? {} : { version }), pciDevices: cards };
  if (version !== undefined) {
    return {
      id: ID,
      verdict: "ok",
      seen: `kernel driver ${version}, ${cards.length} GPUs on the PCI bus`,
      facts,
    };
  }
  if (cards.length === 0)
    return { id: ID, verdict: "skip", seen: "no NVIDIA GPU on the PCI bus, no driver loaded", facts };
  return {
    id: ID,
    verdict: "fail",
    seen: `${cards.length} NVIDIA GPUs on the PCI bus, but the driver is not loaded`,
    remedy: "load it with `modprobe nvidia` (or install the driver), then look at `dmesg | grep -i nvrm`",
    facts,
  };
}

/** The loaded kernel module's version such as `580.95.05`, or undefined when it is not loaded. */
export function kernelDriverVersion(root: string): string | undefined {
  try {
    const text = readFileSync(join(root, "proc/driver/nvidia/version"), "utf8");
    return /^NVRM version:.*?\s(\d{3}\.\d+(?:\.\d+)?)\s/m.exec(text)?.[1];
  } catch {
    return undefined;
  }
}

/** The NVIDIA display devices on the PCI bus, by address. */
export function nvidiaCards(root: string): string[] {
  const folder = join(root, "sys/bus/pci/devices");
  try {
    return readdirSync(folder).filter((device) => {
      const read = (name: string): string => readFileSync(join(folder, device, name), "utf8").trim();
      return read("vendor") === "0x10de" && read("class").startsWith("0x03");
    });
  } catch {
    return [];
  }
}
