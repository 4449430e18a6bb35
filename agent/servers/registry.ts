// Every kind of server that counts tokens. Adding one is a file (or folder) and a line here.
import type { ServerType } from "../source.ts";
import { replayServer } from "./replay.ts";
import { tokenCounters } from "./token-counters.ts";
import { vllm } from "./vllm.ts";

/** The server types by name; a name is a file of this folder and the key of its list under `servers`. */
export const serverTypes: readonly ServerType[] = [replayServer, tokenCounters, vllm];
