// Which file this is, by inode and time of birth: a copy brought back from a backup has the same content and another birth.
import { statSync } from "node:fs";

/** What distinguishes a file from a copy of it; undefined where the file system does not say when a file was born. */
export function fileIdentity(path: string): string | undefined {
  const { birthtimeNs, ctimeNs, ino } = statSync(path, { bigint: true });
  // Where birth is not known libuv gives 0 or the time of the last change.
  return birthtimeNs === 0n || birthtimeNs === ctimeNs ? undefined : `${ino} ${birthtimeNs}`;
}

/** Whether a file is another than the one this identity was taken of; false where that is not known. */
export function isCopy(path: string, identity: string | undefined): boolean {
  if (identity === undefined) return false;
  const found = fileIdentity(path);
  // A copy that was not written to yet was born with its last change: then the inode decides.
  if (found === undefined) return !isSameFile(path, BigInt(identity.split(" ")[0] ?? 0));
  return found !== identity;
}

/** Whether a path still names the file with this inode. */
export function isSameFile(path: string, inode: bigint): boolean {
  return statSync(path, { bigint: true, throwIfNoEntry: false })?.ino === inode;
}
