// `tokenwatt completion bash | zsh | fish`: a completion script made from the command tree, with the configuration's keys for
// `--set`. It is static: completing a word starts no process.
import type { Command } from "commander";
import type { Io } from "./common/io.ts";
import { bashScript } from "./help/bash.ts";
import { commandFacts } from "./help/command-tree.ts";
import { fishScript } from "./help/fish.ts";
import { zshScript } from "./help/zsh.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

/** Adds `tokenwatt completion`. */
export function register(program: Command, io: Io, whole: () => Promise<Command>): void {
  const command = program.command("completion").description("print a completion script for a shell");
  command
    .addArgument(command.createArgument("<shell>", "the shell it is for").choices(SHELLS))
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt completion bash > /usr/share/bash-completion/completions/tokenwatt
  source <(tokenwatt completion bash)
  tokenwatt completion zsh > "\${fpath[1]}/_tokenwatt"
  tokenwatt completion fish > ~/.config/fish/completions/tokenwatt.fish`,
    )
    .action((shell: Shell) => print(shell, io, whole));
}

async function print(shell: Shell, io: Io, whole: () => Promise<Command>): Promise<void> {
  const { configJsonSchema } = await import("../config/load.ts");
  const { allPaths } = await import("../config/key-tree.ts");
  const tree = commandFacts(await whole());
  const keys = allPaths(configJsonSchema()).filter((path) => !path.includes("["));
  io.stdout.write(SCRIPTS[shell](tree, keys));
}

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;
