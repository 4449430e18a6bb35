// config.valid: whether the configuration can be read, and from where.
import { configuredServers } from "../../config/load.ts";
import type { Check } from "./check.ts";
import { reasonOf } from "./check.ts";

export const configCheck: Check = {
  ids: ["config.valid"],
  run: async ({ loaded, configError }) => {
    const id = "config.valid";
    if (loaded === undefined) {
      const remedy = "fix every problem above; `tokenwatt config check` shows them again";
      return [{ id, verdict: "fail", seen: reasonOf(configError).seen, remedy }];
    }
    const servers = configuredServers(loaded.config).length;
    const seen = `${loaded.file ?? "no file, defaults"}; ${servers} server${servers === 1 ? "" : "s"} configured`;
    return [{ id, verdict: "ok", seen }];
  },
};
