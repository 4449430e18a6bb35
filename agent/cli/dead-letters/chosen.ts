// Which dead letters the subcommands of `tokenwatt deadletters` are about.
import type { DeadLetter, DeadLetters } from "../../store/dead-letters.ts";
import type { ConfigOptions } from "../common/config-options.ts";
import { loadConfigFor } from "../common/config-options.ts";
import { UsageError } from "../common/errors.ts";
import type { Io } from "../common/io.ts";

/** What all three take. */
export interface LetterOptions extends ConfigOptions {
  readonly destination?: string;
  readonly json?: boolean;
  readonly stateDir?: string;
}

/** The letters a command is about. Throws UsageError for an id that is not there. */
export async function chosenLetters(
  ids: readonly string[],
  options: LetterOptions,
  io: Io,
): Promise<{
  readonly letters: DeadLetters;
  readonly chosen: readonly DeadLetter[];
  readonly folder: string;
}> {
  const { deadLetterFolder, openDeadLetters } = await import("../../store/dead-letters.ts");
  const folder = deadLetterFolder(options.stateDir ?? (await loadConfigFor(options, io)).config.stateDir);
  const letters = openDeadLetters({ folder });
  const all = await letters.list();
  const missing = ids.filter((id) => !all.some((letter) => letter.id === id));
  if (missing.length > 0) {
    throw new UsageError(
      `Cannot find dead letter ${missing.join(", ")} in ${folder}`,
      "`tokenwatt deadletters list` shows the ids; it may have been sent, dropped or crowded out since",
    );
  }
  const { destination } = options;
  const chosen = all.filter(
    (letter) =>
      (ids.length === 0 || ids.includes(letter.id)) &&
      (destination === undefined || letter.destination === destination),
  );
  return { letters, chosen, folder };
}
