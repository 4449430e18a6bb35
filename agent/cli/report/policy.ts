// The policy whose quotas stand beside a report's lines: that of the configuration. A report is worth reading without it, so
// that one that cannot be read is said and left out.
import type { Policy } from "../../policy/config.ts";
import type { ConfigOptions } from "../common/config-options.ts";
import { loadConfigFor } from "../common/config-options.ts";
import type { Io } from "../common/io.ts";
import { tell } from "../common/io.ts";

/** The policy in force; undefined where there is none, or none that can be read. */
export async function policyOf(options: ConfigOptions, io: Io): Promise<Policy | undefined> {
  const { readPolicy } = await import("../../config/policy.ts");
  try {
    const { config } = await loadConfigFor(options, io);
    // The rows have the prices they were booked with.
    return config.policy === undefined ? undefined : readPolicy(config.policy, { hasPrices: true }).policy;
  } catch (error) {
    tell(io, `quotas are left out: ${(error as Error).message.split("\n")[0]}`);
    return undefined;
  }
}
