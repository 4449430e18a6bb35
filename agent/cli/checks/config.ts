// config.valid: whether the configuration and every file it names can be used, and from where it is.
import { configuredServers } from "../../config/load.ts";
import { readNamedFiles, withFileProblems } from "../../config/usable.ts";
import type { Check } from "./check.ts";
import { reasonOf } from "./check.ts";

const ID = "config.valid";

/** Reads the configuration and every file it names, as `run` does. */
export const configCheck: Check = {
  ids: [ID],
  run: async ({ loaded, configError }) => {
    try {
      if (loaded === undefined) throw withFileProblems(configError);
      readNamedFiles(loaded);
    } catch (error) {
      const remedy = "fix every problem above; `tokenwatt config check` shows them again";
      return [{ id: ID, verdict: "fail", seen: reasonOf(error).seen, remedy }];
    }
    const servers = configuredServers(loaded.config).length;
    const seen = `${loaded.file ?? "no file, defaults"}; ${servers} server${servers === 1 ? "" : "s"} configured`;
    return [{ id: ID, verdict: "ok", seen }];
  },
};
