// The running daemon as other commands find it: its pid file in the state directory and its /-/status.
// A pid is believed only when /proc names the process as ours: pids are reused after a reboot.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { get as httpGet } from "node:http";
import { get as httpsGet } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Config } from "../../config/load.ts";
import { formatHostPort, isFault, parseHostPort } from "../../platform/address.ts";
import type { Environment } from "./io.ts";

/** Why no daemon was found, for messages; or its pid. */
export type DaemonProcess = { readonly pid: number } | { readonly missing: string };

/** The daemon of this configuration. `MAINPID` is what systemd gives the commands of ExecReload. */
export function findDaemon(config: Config, env: Environment): DaemonProcess {
  const given = Number(env["MAINPID"]);
  if (Number.isSafeInteger(given) && given > 1) return { pid: given };
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

/** Where what listens on every address is asked. */
const LOOPBACK: Readonly<Record<string, string>> = { "0.0.0.0": "127.0.0.1", "::": "::1" };

/** Where a tokenwatt serves its endpoints: the section `export.prometheus`. */
export interface Endpoint {
  readonly listen: string;
  readonly tls?: object | undefined;
}

/**
 * `/-/status` of the tokenwatt that listens there, or undefined when none answers within `ms`. Its certificate is not
 * judged: nothing is sent to it. One that wants a client's certificate does not answer.
 */
export async function readStatus(
  { listen, tls }: Endpoint,
  ms: number,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  if (listen === "") return undefined;
  const place = parseHostPort(listen);
  if (isFault(place)) return undefined;
  const address = formatHostPort({ ...place, host: LOOPBACK[place.host] ?? place.host });
  try {
    const signal = AbortSignal.timeout(ms);
    const request =
      tls === undefined
        ? httpGet(`http://${address}/-/status`, { signal })
        : httpsGet(`https://${address}/-/status`, { signal, rejectUnauthorized: false });
    const [answer] = (await once(request, "response", { signal })) as [IncomingMessage];
    const status = JSON.parse(await text(answer)) as Readonly<Record<string, unknown>>;
    return "gpu_backend" in status ? status : undefined;
  } catch {
    return undefined;
  }
}
