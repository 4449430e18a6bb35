// Tells the service manager how we are: sd_notify(3) datagrams to NOTIFY_SOCKET and watchdog heartbeats.
// Node has no unix datagram sockets, and systemd-notify would need NotifyAccess=all, so three libc calls through koffi;
// koffi is loaded only where a socket is named. A path beginning with `@` is in the abstract namespace.
import type { Cancel, Clock } from "./clock.ts";
import { every } from "./clock.ts";
import type { Log } from "./log.ts";

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 0x80002;
const MSG_NOSIGNAL_DONTWAIT = 0x4040;
const PATH_BYTES_MAX = 108;

/** What the service manager is told. Every call does nothing where there is none. */
export interface ServiceManager {
  /** Metering has begun; the status is the line `systemctl status` shows. */
  ready(status: string): void;
  status(text: string): void;
  /** The configuration is being read again; `ready` ends it. */
  reloading(): void;
  /** The end has begun; it may take up to `ms` more. */
  stopping(ms: number): void;
  /** Stops the heartbeats. */
  close(): void;
}

/** What the notifications need: where to send them, when, and where failures are said. */
export interface NotifyOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * The service manager that started this process, with its watchdog fed at a third of its period from the event loop:
 * a loop that is stuck is killed, a driver that hangs in the child is not. Never throws: what fails is logged.
 */
export async function openServiceManager(options: NotifyOptions): Promise<ServiceManager> {
  const { env, clock, log } = options;
  const path = env["NOTIFY_SOCKET"];
  if (path === undefined || path === "") return silent;
  let send: (text: string) => void;
  try {
    send = await datagramSender(path, log);
  } catch (error) {
    log.warn("service manager cannot be told anything", { socket: path, cause: String(error) });
    return silent;
  }
  const period = watchdogMs(env);
  const cancel: Cancel = period === undefined ? () => {} : every(clock, period, () => send("WATCHDOG=1"));
  if (period !== undefined) send("WATCHDOG=1");
  return {
    ready: (status) => send(`READY=1\nSTATUS=${oneLine(status)}`),
    status: (text) => send(`STATUS=${oneLine(text)}`),
    reloading: () => send(`RELOADING=1\nMONOTONIC_USEC=${monotonicMicros()}`),
    stopping: (ms) => send(`STOPPING=1\nSTATUS=flushing\nEXTEND_TIMEOUT_USEC=${Math.round(ms * 1000)}`),
    close: cancel,
  };
}

const silent: ServiceManager = {
  ready: () => {},
  status: () => {},
  reloading: () => {},
  stopping: () => {},
  close: () => {},
};

/** A third of WatchdogSec, or undefined where no watchdog waits for this process. */
function watchdogMs(env: NotifyOptions["env"]): number | undefined {
  const micros = Number(env["WATCHDOG_USEC"]);
  if (!(micros > 0)) return undefined;
  const owner = env["WATCHDOG_PID"];
  return owner === undefined || Number(owner) === process.pid ? micros / 1000 / 3 : undefined;
}

/** CLOCK_MONOTONIC, which systemd compares with its own: not the agent's clock, which begins at its start. */
function monotonicMicros(): bigint {
  return process.hrtime.bigint() / 1000n;
}

function oneLine(text: string): string {
  return text.replaceAll(/[\r\n]+/g, " ").slice(0, 500);
}

async function datagramSender(path: string, log: Log): Promise<(text: string) => void> {
  const { default: koffi } = await import("koffi");
  const libc = koffi.load(null);
  const socket = libc.func("int socket(int domain, int type, int protocol)");
  const sendto = libc.func(
    "long sendto(int socket, const uint8_t *data, size_t size, int flags, const uint8_t *address, uint32_t length)",
  );
  const address = unixAddress(path);
  const descriptor: number = socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (descriptor < 0) throw new Error(`socket() failed, errno ${koffi.errno()}`);
  return (text) => {
    const data = Buffer.from(text);
    const sent: number = sendto(
      descriptor,
      data,
      data.length,
      MSG_NOSIGNAL_DONTWAIT,
      address,
      address.length,
    );
    if (sent < 0) log.warn("service manager did not take a message", { socket: path, errno: koffi.errno() });
  };
}

/** `struct sockaddr_un`: the family, then the path; abstract names begin with a zero byte and have none at the end. */
function unixAddress(path: string): Buffer {
  const abstract = path.startsWith("@");
  const name = Buffer.from(abstract ? `\0${path.slice(1)}` : `${path}\0`);
  if (name.length > PATH_BYTES_MAX) throw new Error(`the path has more than ${PATH_BYTES_MAX} bytes`);
  const family = Buffer.from(new Uint16Array([AF_UNIX]).buffer);
  return Buffer.concat([family, name]);
}
