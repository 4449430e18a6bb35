// The name of this process for `ps`, `systemctl status` and the kernel's out-of-memory lines, where Node's is "MainThread".
// /proc/self/comm leaves the command line as it is, which process.title would overwrite (proc(5); 15 bytes).
import { writeFileSync } from "node:fs";

/** Names this process. Where it cannot, nothing happens. */
export function nameProcess(name: string): void {
  try {
    writeFileSync("/proc/self/comm", name);
  } catch {
    // No /proc, or a read-only one: the name is a convenience.
  }
}
