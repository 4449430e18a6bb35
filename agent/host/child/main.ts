// A short-lived process around systeminformation; inventory.ts kills it, with whatever it started, after 5 s.
import { cpu, mem, osInfo, system } from "systeminformation";
import type { HostInventory } from "../inventory.ts";

const [processor, memory, os, machine] = await Promise.all([cpu(), mem(), osInfo(), system()]);
const cpuModel = `${processor.manufacturer} ${processor.brand}`.trim();
const product = `${machine.manufacturer} ${machine.model}`.trim();
const facts: HostInventory = {
  ...(os.release === "" ? {} : { osVersion: os.release }),
  ...(cpuModel === "" ? {} : { cpuModel }),
  ...(processor.cores > 0 ? { cpuCount: processor.cores } : {}),
  ...(memory.total > 0 ? { memoryBytes: memory.total } : {}),
  ...(product === "" ? {} : { machine: product }),
  virtual: machine.virtual ?? false,
};
process.send?.(facts);
