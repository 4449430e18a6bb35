// The completion script for bash, made from the command tree: one function that walks the words typed so far and offers
// what may follow. A command is named by its words with slashes, which no word can hold.
import type { CommandFacts, OptionFacts } from "./command-tree.ts";
import { flattened } from "./command-tree.ts";

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
