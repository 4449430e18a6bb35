// Every check of `tokenwatt doctor`, in the order it prints them. Adding one is a file beside this one and a line here.
import { backendCheck } from "./backend.ts";
import type { Check } from "./check.ts";
import { clockCheck } from "./clock.ts";
import { collectorCheck } from "./collector.ts";
import { configCheck } from "./config.ts";
import { devicesCheck } from "./devices.ts";
import { discoveryCheck } from "./discovery.ts";
import { driverCheck } from "./driver.ts";
import { gatewaysCheck } from "./gateways.ts";
import { memoryCheck } from "./memory.ts";
import { nodeCheck } from "./node.ts";
import { portCheck } from "./port.ts";
import { serversCheck } from "./servers.ts";
import { stateCheck } from "./state.ts";

/** Every check, in the order of its findings. */
export const checks: readonly Check[] = [
  nodeCheck,
  configCheck,
  driverCheck,
  devicesCheck,
  backendCheck,
  discoveryCheck,
  serversCheck,
  gatewaysCheck,
  collectorCheck,
  portCheck,
  stateCheck,
  memoryCheck,
  clockCheck,
];
