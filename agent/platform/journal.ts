// Whether stderr is systemd's journal, and the priority prefix it reads from each line (sd-daemon(3)): with it
// `journalctl -p warning` finds what matters. JOURNAL_STREAM names device and inode of the stream, since a child with
// another stderr inherits the variable (systemd.exec(5)).
import { fstatSync } from "node:fs";

/** syslog's numbers of the levels we write. */
export const priorities = { error: 3, warn: 4, info: 6, debug: 7 } as const;

/** Whether file descriptor 2 is the stream that the journal gave. */
export function stderrIsJournal(env: Readonly<Record<string, string | undefined>>): boolean {
  const named = env["JOURNAL_STREAM"];
  if (named === undefined) return false;
  try {
    const { dev, ino } = fstatSync(2);
    return named === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** Text of any number of lines, each with its priority. */
export function withPriority(text: string, priority: number): string {
  return text.replaceAll(/^(?=.)/gm, `<${priority}>`);
}
