// `tokenwatt completion bash | zsh | fish`: a completion script made from the command tree, with the configuration's keys for
// `--set`. It is static: completing a word starts no process.
import type { Command } from "commander";
import type { Io } from "./common/io.ts";
import type { CommandFacts, OptionFacts } from "./help/command-tree.ts";
import { commandFacts, flattened } from "./help/command-tree.ts";
import { fishScript } from "./help/fish.ts";

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

/** The script for bash 4.4 and newer; it does not need the bash-completion package. */
export function bashScript(tree: CommandFacts, keys: readonly string[]): string {
  const commands = flattened(tree);
  return `# bash completion for tokenwatt, printed by \`tokenwatt completion bash\`
_tokenwatt_keys='${keys.join(" ")}'

_tokenwatt() {
  local current previous path='' word index
  current=\${COMP_WORDS[COMP_CWORD]}
  previous=\${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    case "$path $word" in
${commands
  .filter((command) => command.words.length > 0)
  .map((command) => `      '${pathOf(command, -1)} ${command.words.at(-1)}') path='${pathOf(command)}' ;;`)
  .join("\n")}
    esac
  done
  case "$path $previous" in
${commands.flatMap(bashValues).join("\n")}
  esac
  case "$path" in
${commands.map(bashWords).join("\n")}
  esac
}

complete -F _tokenwatt tokenwatt
`;
}

/** `/config/check`: words cannot hold a slash. */
function pathOf(command: CommandFacts, end?: number): string {
  return command.words
    .slice(0, end)
    .map((word) => `/${word}`)
    .join("");
}

function bashValues(command: CommandFacts): string[] {
  return command.options.flatMap((option) => {
    const reply = bashReply(option.value);
    return reply === undefined
      ? []
      : option.names.map((name) => `    '${pathOf(command)} ${name}') ${reply} return ;;`);
  });
}

function bashReply(value: OptionFacts["value"]): string | undefined {
  if (value === undefined) return undefined;
  if (value === "text") return "";
  if (value === "file") return `mapfile -t COMPREPLY < <(compgen -f -- "$current");`;
  if (value === "folder") return `mapfile -t COMPREPLY < <(compgen -d -- "$current");`;
  if (value === "key") {
    return `compopt -o nospace; mapfile -t COMPREPLY < <(compgen -S = -W "$_tokenwatt_keys" -- "$current");`;
  }
  return `mapfile -t COMPREPLY < <(compgen -W '${value.join(" ")}' -- "$current");`;
}

function bashWords(command: CommandFacts): string {
  const [argument] = command.arguments;
  const choices = typeof argument?.value === "object" ? argument.value : [];
  const words = [
    ...command.commands.map((inner) => inner.words.at(-1)),
    ...choices,
    ...command.options.map(longest),
  ];
  const files = argument?.value === "file" || argument?.value === "folder" ? ` -f` : "";
  return `    '${pathOf(command)}') mapfile -t COMPREPLY < <(compgen${files} -W '${words.join(" ")}' -- "$current") ;;`;
}

function longest(option: OptionFacts): string {
  return option.names[0] ?? "";
}

/** The script for zsh 5, a function file for \`fpath\`. */
export function zshScript(tree: CommandFacts, keys: readonly string[]): string {
  return `#compdef tokenwatt
# zsh completion for tokenwatt, printed by \`tokenwatt completion zsh\`
${flattened(tree)
  .map((command) => zshFunction(command, keys))
  .join("\n")}
_tokenwatt "$@"
`;
}

function zshFunction(command: CommandFacts, keys: readonly string[]): string {
  const specs = command.options.flatMap((option) =>
    option.names.map(
      (name) => `    '${name}[${zshText(option.description)}]${zshValue(option.value, keys)}'`,
    ),
  );
  const name = ["_tokenwatt", ...command.words].join("_");
  if (command.commands.length === 0) {
    const positional = command.arguments.map(
      (argument) => `    ':${argument.name}${zshValue(argument.value, keys).slice(1)}'`,
    );
    const lines = [...specs, ...positional].join(" \\\n");
    return `${name}() {\n  _arguments \\\n${lines}\n}\n`;
  }
  const inner = command.commands
    .map((one) => `    '${one.words.at(-1)}:${zshText(one.description)}'`)
    .join("\n");
  const cases = command.commands
    .map((one) => `    ${one.words.at(-1)}) ${["_tokenwatt", ...one.words].join("_")} ;;`)
    .join("\n");
  return `${name}() {
  local state line
  local -a commands=(
${inner}
  )
  _arguments -C \\
${specs.map((spec) => `${spec} \\`).join("\n")}
    '1:command:->command' '*::arguments:->arguments'
  case $state in
  command) _describe command commands ;;
  arguments)
    case $line[1] in
${cases}
    esac
    ;;
  esac
}
`;
}

function zshText(text: string): string {
  return text.replaceAll("'", "").replaceAll(/([[\]:])/g, "\\$1");
}

function zshValue(value: OptionFacts["value"], keys: readonly string[]): string {
  if (value === undefined) return "";
  if (value === "file") return ":file:_files";
  if (value === "folder") return ":folder:_files -/";
  if (value === "text") return ":value: ";
  return value === "key" ? `:key:(${keys.join(" ")})` : `:value:(${value.join(" ")})`;
}
