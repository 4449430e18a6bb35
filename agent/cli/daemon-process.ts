// The running daemon as other commands find it: its pid file in the state directory and its /-/status.
// A pid is believed only when /proc names the process as ours: pids are reused after a reboot.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../config.ts";
import type { Environment } from "./io.ts";

/** Why no daemon was found, for messages; or its pid. */
export type DaemonProcess = { readonly pid: number } | { readonly missing: string };

/** The daemon of this configuration. `MAINPID` is what systemd tells the commands of ExecReload. */
export function findDaemon(config: Config, env: Environment): DaemonProcess {
  const told = Number(env["MAINPID"]);
  if (Number.isSafeInteger(told) && told > 1) return { pid: told };
  const file = join(config.stateDir, "tokenwatt.pid");
  let pid: number;
  try {
    pid = Number(readFileSync(file, "utf8").trim());
  } catch (error) {
    return { missing: `${file}: ${(error as NodeJS.ErrnoException).code ?? "cannot be read"}` };
  }
  if (!Number.isSafeInteger(pid) || pid < 2) return { missing: `${file} holds no process id` };
  if (!isOurs(pid)) return { missing: `${file} names process ${pid}, which is not running or not tokenwatt` };
  return { pid };
}

function isOurs(pid: number): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8");
    return /tokenwatt|main\.(ts|mjs)/.test(words);
  } catch {
    return false;
  }
}

/** `/-/status` of the tokenwatt that listens at `host:port`, or undefined when none answers there within `ms`. */
export async function readStatus(
  listen: string,
  ms: number,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  if (listen === "") return undefined;
  const address = listen.replace(/^0\.0\.0\.0:/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:");
  try {
    const answer = await fetch(`http://${address}/-/status`, { signal: AbortSignal.timeout(ms) });
    const status = (await answer.json()) as Readonly<Record<string, unknown>>;
    return "gpu_backend" in status ? status : undefined;
  } catch {
    return undefined;
  }
}
