// Where install-tools.sh puts the tools of this suite, and its installers beside the tests.
import { homedir } from "node:os";
import { join } from "node:path";

const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");

/** `$E2E_TOOLS`, default ~/.cache/tokenwatt-tools. */
export const toolsFolder = process.env["E2E_TOOLS"] ?? join(cache, "tokenwatt-tools");
