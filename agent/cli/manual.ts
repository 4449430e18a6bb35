// `tokenwatt manual`: the manual pages tokenwatt(1) and tokenwatt.yaml(5), made from the command tree and from the
// configuration's schema, so that they cannot describe what does not exist. roff with man(7) macros.
import type { Command } from "commander";
import type { JsonSchema } from "../config/key-tree.ts";
import type { Io } from "./common/io.ts";
import type { CommandFacts } from "./help/command-tree.ts";
import { commandFacts, flattened } from "./help/command-tree.ts";

/** Adds `tokenwatt manual`. */
export function register(program: Command, io: Io, whole: () => Promise<Command>): void {
  const command = program
    .command("manual")
    .description("print a manual page: tokenwatt(1) or tokenwatt.yaml(5)");
  const page = command.createArgument("[page]", "1 for the program, 5 for its configuration file");
  command
    .addArgument(page.choices(["1", "5"]).default("1"))
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt manual | man -l -
  tokenwatt manual 5 > /usr/share/man/man5/tokenwatt.yaml.5`,
    )
    .action((wanted: "1" | "5") => print(wanted, io, whole));
}

async function print(page: "1" | "5", io: Io, whole: () => Promise<Command>): Promise<void> {
  const { programVersion } = await import("../platform/version.ts");
  if (page === "1") {
    io.stdout.write(programManual(commandFacts(await whole()), programVersion()));
    return;
  }
  const { configJsonSchema } = await import("../config/load.ts");
  const { allPaths, schemasAt } = await import("../config/key-tree.ts");
  const { parsePath } = await import("../config/paths.ts");
  const { environmentName } = await import("../config/environment.ts");
  const schema = configJsonSchema();
  const keys = allPaths(schema).map((name): KeyFacts => {
    const path = parsePath(name) ?? [];
    return { name, variable: environmentName(path), schemas: schemasAt(schema, path) };
  });
  io.stdout.write(configManual(keys, programVersion()));
}

/** tokenwatt(1). */
export function programManual(tree: CommandFacts, version: string): string {
  const commands = flattened(tree).filter((command) => command.words.length > 0);
  return lines(
    `.TH TOKENWATT 1 "" "tokenwatt ${version}" "User Commands"`,
    ".SH NAME",
    `tokenwatt \\- ${roff(lowerFirst(tree.description))}`,
    ".SH SYNOPSIS",
    ".B tokenwatt\n[\\fIcommand\\fR] [\\fIoptions\\fR]",
    ".SH DESCRIPTION",
    "Without a command tokenwatt meters this host, or runs the demo where there is no NVIDIA GPU.",
    "Data goes to the standard output, talk to the standard error.",
    ".SH COMMANDS",
    ...commands.map((command) => commandManual(command)),
    ".SH EXIT STATUS",
    ...[
      ["0", "ok"],
      ["1", "crashed, or doctor found warnings"],
      ["2", "misconfigured, or doctor found failures"],
      ["75", "only a restart helps"],
    ].map(([code, text]) => `.TP\n.B ${code}\n${text}`),
    ".SH SIGNALS",
    ".TP\n.B SIGTERM, SIGINT\nstop: commit and send what was metered; again after a second: at once",
    ".TP\n.B SIGHUP\nread the configuration again; a wrong one is refused and the old one stays",
    ".TP\n.B SIGUSR2\nrelease every GPU handle, and the next time take them back",
    ".SH FILES",
    ".TP\n.I /etc/tokenwatt/config.yaml\nconfiguration, see\n.BR tokenwatt.yaml (5)",
    ".TP\n.I /var/lib/tokenwatt\nwhat survives a restart",
    ".SH ENVIRONMENT",
    ".TP\n.B TOKENWATT_CONFIG\nconfiguration file",
    ".TP\n.B TOKENWATT_*\nevery key of the configuration; `tokenwatt config print \\-\\-env` lists the names",
    ".TP\n.B OTEL_*\nOpenTelemetry's names for the exporter, its interval and resource attributes",
    ".SH SEE ALSO",
    ".BR tokenwatt.yaml (5)",
  );
}

function commandManual(command: CommandFacts): string {
  const options = command.options
    .filter((option) => !option.names.includes("--help"))
    .map(({ flags, description, defaultText }) => {
      const fallback = defaultText === undefined ? "" : ` (default: ${defaultText})`;
      return `.RS\n.TP\n.B ${roff(flags)}\n${roff(description + fallback)}\n.RE`;
    });
  const usage = `${command.words.join(" ")} ${command.usage}`;
  return lines(`.SS ${roff(usage)}`, roff(command.description), ...options).trimEnd();
}

/** One key of the configuration. */
export interface KeyFacts {
  readonly name: string;
  readonly variable: string;
  readonly schemas: readonly JsonSchema[];
}

/** tokenwatt.yaml(5). */
export function configManual(keys: readonly KeyFacts[], version: string): string {
  return lines(
    `.TH TOKENWATT.YAML 5 "" "tokenwatt ${version}" "File Formats"`,
    ".SH NAME",
    "tokenwatt.yaml \\- configuration of tokenwatt",
    ".SH DESCRIPTION",
    "YAML 1.2. Every key has a default and may be left out; an unknown key is refused.",
    "Later layers win: defaults, the file, OTEL_*, TOKENWATT_*, the option \\-\\-set.",
    "An entry of a list is written [0] here.",
    ".SH KEYS",
    ...keys.map(({ name, variable, schemas }) => {
      const types = [...new Set(schemas.flatMap((schema) => typeText(schema)))].join(" or ");
      const [first] = schemas;
      const fallback = first?.default;
      const scalar = fallback !== undefined && (typeof fallback !== "object" || fallback === null);
      const facts = [types, scalar ? `default ${JSON.stringify(fallback)}` : "", variable]
        .filter(Boolean)
        .join("; ");
      const description = schemas.map((schema) => schema.description).find(Boolean);
      return `.TP\n.B ${roff(name)}\n${roff(facts)}${description === undefined ? "" : `.\n.br\n${roff(description)}`}`;
    }),
    ".SH SEE ALSO",
    ".BR tokenwatt (1)",
  );
}

function typeText({ type, enum: words }: JsonSchema): string[] {
  if (words !== undefined) return [`one of ${words.join(", ")}`];
  return type === undefined ? [] : [TYPE_NAMES[type] ?? type];
}

const TYPE_NAMES: Readonly<Record<string, string>> = { object: "section", array: "list", string: "text" };

/** Text as roff takes it literally: backslashes, hyphens, and no control character at the start of a line. */
function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll(/^(?=[.'])/gm, "\\&");
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1).replace(/\.$/, "");
}

function lines(...parts: readonly string[]): string {
  return `${parts.join("\n")}\n`;
}
