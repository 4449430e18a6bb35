// Every subcommand, in the order `--help` shows them. Adding one is a file beside this one that exports
// `register(program, io)`, and a line here. Only the file of the command asked for is loaded, so keep its top level
// light and import what is heavy inside the action.
import type { Command } from "commander";
import type { Io } from "./common/io.ts";

/** The name typed and the file behind it. */
export interface CommandEntry {
  readonly name: string;
  /** `whole` builds another complete program, for commands that describe all the others. */
  load(): Promise<{ register(program: Command, io: Io, whole: () => Promise<Command>): void }>;
}

/** The subcommands; `start` is what runs when none is named. */
export const commands: readonly CommandEntry[] = [
  { name: "start", load: () => import("./start.ts") },
  { name: "run", load: () => import("./run.ts") },
  { name: "top", load: () => import("./top.ts") },
  { name: "demo", load: () => import("./demo.ts") },
  { name: "replay", load: () => import("./replay.ts") },
  { name: "record", load: () => import("./record.ts") },
  { name: "doctor", load: () => import("./doctor.ts") },
  { name: "config", load: () => import("./config.ts") },
  { name: "signal", load: () => import("./signal.ts") },
  { name: "gpu", load: () => import("./gpu.ts") },
  { name: "metrics", load: () => import("./metrics.ts") },
  { name: "probe", load: () => import("./probe.ts") },
  { name: "report", load: () => import("./report.ts") },
  { name: "audit", load: () => import("./audit.ts") },
  { name: "policy", load: () => import("./policy.ts") },
  { name: "verify", load: () => import("./verify.ts") },
  { name: "deadletters", load: () => import("./deadletters.ts") },
  { name: "economics", load: () => import("./economics.ts") },
  { name: "completion", load: () => import("./completion.ts") },
  { name: "manual", load: () => import("./manual.ts") },
];
