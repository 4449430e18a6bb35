// The completion script for fish 3, made from the command tree. fish has one rule a line, each with the condition under
// which it holds: here, which command's words stand on the line already.
import type { CommandFacts, OptionFacts } from "./command-tree.ts";
import { flattened } from "./command-tree.ts";

/** The script, a file for vendor_completions.d or ~/.config/fish/completions. */
export function fishScript(tree: CommandFacts, keys: readonly string[]): string {
  const commands = flattened(tree);
  const known = commands.filter((command) => command.words.length > 0).map(pathOf);
  return `# fish completion for tokenwatt, printed by \`tokenwatt completion fish\`
set -g __tokenwatt_keys ${keys.map((key) => `${key}=`).join(" ")}

function __tokenwatt_at -d 'whether the commands on the line are these'
    set -l path
    for word in (commandline -opc)[2..]
        contains -- "$path/$word" ${known.join(" ")}; and set path "$path/$word"
    end
    test "$path" = "$argv[1]"
end

complete -c tokenwatt -f
${commands.flatMap((command) => rules(command)).join("\n")}
`;
}

function pathOf(command: CommandFacts): string {
  return command.words.map((word) => `/${word}`).join("");
}

function rules(command: CommandFacts): string[] {
  const when = `complete -c tokenwatt -n "__tokenwatt_at '${pathOf(command)}'"`;
  return [
    ...command.commands.map((inner) => `${when} -a ${inner.words.at(-1)} -d '${quoted(inner.description)}'`),
    ...command.arguments.slice(0, 1).flatMap(({ value }) => {
      const offered = offer(value);
      return offered === "" ? [] : [`${when}${offered}`];
    }),
    ...command.options.map((option) => `${when}${option.names.map(flag).join("")}${taken(option)}`),
  ];
}

function flag(name: string): string {
  return name.startsWith("--") ? ` -l ${name.slice(2)}` : ` -s ${name.slice(1)}`;
}

function taken(option: OptionFacts): string {
  // -x: a value must come and no file is offered; -r: a value must come.
  const needs = option.value === "file" ? " -r" : " -x";
  const value = option.value === undefined ? "" : `${needs}${offer(option.value)}`;
  return `${value} -d '${quoted(option.description)}'`;
}

/** What fish offers for a value: nothing where anything may stand. */
function offer(value: OptionFacts["value"]): string {
  if (value === undefined || value === "text") return "";
  if (value === "file") return " -F";
  if (value === "folder") return " -a '(__fish_complete_directories)'";
  return value === "key" ? " -a '$__tokenwatt_keys'" : ` -a '${value.join(" ")}'`;
}

function quoted(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("'", "\\'");
}
