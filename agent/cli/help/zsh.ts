// The completion script for zsh, made from the command tree: one function for each command, in the terms of `_arguments`.
import type { CommandFacts, OptionFacts } from "./command-tree.ts";
import { flattened } from "./command-tree.ts";

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
