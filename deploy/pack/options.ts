// The command line of `npm run pack`: which artefacts, for which architectures, where to.
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";

/** The kinds of artefact that can be made. */
export const KINDS = ["tarball", "deb", "rpm", "oci", "npm", "folder"] as const;
/** One of them; folder is the program unpacked, for a try on this machine. */
export type Kind = (typeof KINDS)[number];

const ARCHITECTURES = ["x64", "arm64"] as const;
/** Architectures as Node names them. */
export type Architecture = (typeof ARCHITECTURES)[number];

/** What to make. */
export interface PackOptions {
  readonly only: readonly Kind[];
  readonly arch: readonly Architecture[];
  readonly out: string;
  /** Of xz. */
  readonly preset: number;
}

/** Where commander's text goes. */
interface Output {
  readonly stdout: { write(text: string): boolean };
  readonly stderr: { write(text: string): boolean };
}

/** Reads the command line. Throws commander's error, its text already written, on --help and on what it cannot read. */
export function readOptions(root: string, words: readonly string[], output: Output = process): PackOptions {
  const command = new Command("npm run pack --")
    .description(
      "Writes tarball, Debian package, rpm, OCI image and npm package; equal sources give equal bytes.",
    )
    .option(
      "--only <kinds>",
      `${KINDS.join(", ")}; with commas or repeated (default: all but folder)`,
      listOf(KINDS),
    )
    .option(
      "--arch <architectures>",
      `${ARCHITECTURES.join(", ")}; the same (default: both)`,
      listOf(ARCHITECTURES),
    )
    .option("--out <folder>", "where to", join(root, "dist"))
    .option("--preset <0-9>", "effort of xz: 9 saves 1 % in twice the time, 0 is for tests", preset, 6)
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => output.stdout.write(text),
      writeErr: (text) => output.stderr.write(text),
    })
    .addHelpText("after", "\nFor example: npm run pack -- --only deb,rpm --arch x64");
  command.parse(words, { from: "user" });
  const {
    only = KINDS.filter((kind) => kind !== "folder"),
    arch = ARCHITECTURES,
    ...rest
  } = command.opts<{
    only?: readonly Kind[];
    arch?: readonly Architecture[];
    out: string;
    preset: number;
  }>();
  return { only, arch, ...rest };
}

function listOf<T extends string>(
  known: readonly T[],
): (text: string, before?: readonly T[]) => readonly T[] {
  return (text, before = []) => {
    const words = text.split(",").map((word) => {
      const found = known.find((one) => one === word);
      if (found === undefined) {
        throw new InvalidArgumentError(`Got ${JSON.stringify(word)}, wanted one of ${known.join(", ")}.`);
      }
      return found;
    });
    return [...new Set([...before, ...words])];
  };
}

function preset(text: string): number {
  if (/^[0-9]$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Wanted a digit, 0 to 9.");
}
