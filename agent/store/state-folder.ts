// The state directory where it cannot be used: what to do, by the system's error code. Both the log and `doctor` say it.

/** What to do about a failure to write there; `error` is the error, its code or its message. */
export function stateRemedy(error: unknown): string {
  const known = (error as NodeJS.ErrnoException | undefined)?.code;
  const text = known ?? (error instanceof Error ? error.message : String(error));
  return REMEDIES[/^E[A-Z]+/.exec(text)?.[0] ?? ""] ?? "choose another folder with stateDir";
}

const REMEDIES: Readonly<Record<string, string>> = {
  EACCES: "give this user the folder (`chown`), or choose another with stateDir",
  EPERM: "give this user the folder (`chown`), or choose another with stateDir",
  EROFS:
    "the file system is read-only: under systemd use StateDirectory=tokenwatt, in a pod mount a volume there",
  ENOSPC: "the disk is full: make room, or choose another with stateDir",
  ENOTDIR: "a part of the path is a file: choose another folder with stateDir",
  EEXIST: "the path is a file: choose another folder with stateDir",
};
