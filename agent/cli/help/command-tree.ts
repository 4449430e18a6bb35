// The command tree as plain data: what completions, the manual page and their tests are made from, so that neither can
// name an option that does not exist.
import type { Command, Option } from "commander";

/** One option as a completion needs it. */
export interface OptionFacts {
  /** `--config`, `-c`. */
  readonly names: readonly string[];
  readonly flags: string;
  readonly description: string;
  /** What its value is: a path, one of some words, a configuration key, anything; absent = it takes none. */
  readonly value?: "file" | "folder" | "key" | "text" | readonly string[];
  readonly defaultText?: string;
}

/** One command and those below it. */
export interface CommandFacts {
  /** Words from the program's name down, without it: `["config", "check"]`. */
  readonly words: readonly string[];
  readonly description: string;
  readonly usage: string;
  readonly options: readonly OptionFacts[];
  readonly arguments: readonly { readonly name: string; readonly value: OptionFacts["value"] }[];
  readonly commands: readonly CommandFacts[];
}

/** The facts of a command and of everything below it, hidden commands and options left out. */
export function commandFacts(command: Command, words: readonly string[] = []): CommandFacts {
  const help = command.createHelp();
  const visible = help.visibleCommands(command).filter((inner) => inner.name() !== "help");
  return {
    words,
    description: command.description(),
    usage: command.usage(),
    options: help.visibleOptions(command).map(optionFacts),
    arguments: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      value: argument.argChoices ?? valueKind(argument.name()),
    })),
    commands: visible.map((inner) => commandFacts(inner, [...words, inner.name()])),
  };
}

function optionFacts(option: Option): OptionFacts {
  const placeholder = /[<[]([^>\]]+)[>\]]/.exec(option.flags)?.[1];
  const value = placeholder === undefined ? undefined : (option.argChoices ?? valueKind(placeholder));
  const { defaultValue } = option as { defaultValue?: unknown };
  const shown =
    option.defaultValueDescription ?? (typeof defaultValue === "string" ? defaultValue : undefined);
  return {
    names: [option.long, option.short].filter((name) => name !== undefined && name !== null),
    flags: option.flags,
    description: option.description,
    ...(value === undefined ? {} : { value }),
    ...(shown === undefined ? {} : { defaultText: shown }),
  };
}

function valueKind(placeholder: string): OptionFacts["value"] {
  if (/file|target/.test(placeholder)) return "file";
  if (/folder|dir/.test(placeholder)) return "folder";
  return placeholder.startsWith("key=") ? "key" : "text";
}

/** A command and all below it, in the order of the tree. */
export function flattened(facts: CommandFacts): readonly CommandFacts[] {
  return [facts, ...facts.commands.flatMap(flattened)];
}
