// Addresses as an operator writes them: `host:port`, `[::1]:port`, `http(s)://host:port/path`, `unix:/path`. Read in one
// place, so that a listener, a peer, a probe and a message mean the same by one text. A user name or password in an
// address is refused, but for metric pages, which are asked with it; wherever an address is shown it is masked.
import { BlockList, isIP, isIPv4, isIPv6 } from "node:net";
import { z } from "zod";

/** Where something listens or is reached over TCP; `host` without brackets. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** A web address in its parts. */
export interface WebAddress extends HostPort {
  readonly secure: boolean;
  /** With its query; empty where the address ends with the port. */
  readonly path: string;
}

/** A socket of this host, and the page asked for behind it. */
export interface UnixSocket {
  readonly socket: string;
  readonly page?: string;
}

/** What a text was read as. */
export type Parsed = HostPort | UnixSocket | AddressFault;

/** Why a text is no address: what was wanted, and how to get there. */
export interface AddressFault {
  readonly wanted: string;
  readonly hint: string;
}

/** How a `host:port` may be written. */
export interface HostPortOptions {
  /** Stands for a port that is left out; without it the port must be there. */
  readonly defaultPort?: number;
  /** Port 0 is allowed: who listens takes any free one. */
  readonly anyPort?: boolean;
  /** Shown in the hint of an address without its port; default 8000. */
  readonly examplePort?: number;
}

const PORT_MAX = 65_535;

/** `host:port`, with an IPv6 address in brackets. */
export function parseHostPort(text: string, options: HostPortOptions = {}): HostPort | AddressFault {
  const { anyPort = false, defaultPort, examplePort = 8000 } = options;
  if (text.includes("@")) {
    return {
      wanted: "host:port without a user name",
      hint: "credentials go into `bearerFile` or `headers`, an address is shown in many places",
    };
  }
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(text)?.[0];
  if (scheme !== undefined) return { wanted: "host:port", hint: `leave out "${scheme}"` };
  if (/[\s/?#]/.test(text) || text === "") {
    return { wanted: "host:port", hint: `for example "localhost:${examplePort}"` };
  }
  if (isIPv6(text))
    return { wanted: "host:port", hint: `an IPv6 address stands in brackets: "[::1]:${examplePort}"` };
  const [, inner, name, portText] = /^(?:\[([^[\]]*)\]|([^:[\]]+))(?::(.*))?$/.exec(text) ?? [];
  const host = inner ?? name;
  if (host === undefined || !(inner === undefined ? isName(host) : isIPv6(inner))) {
    return { wanted: "host:port", hint: `for example "localhost:${examplePort}" or "[::1]:${examplePort}"` };
  }
  if (portText === undefined) {
    if (defaultPort !== undefined) return { host, port: defaultPort };
    return { wanted: "host:port", hint: `add the port, for example "${text}:${examplePort}"` };
  }
  const port = /^\d{1,5}$/.test(portText) ? Number(portText) : Number.NaN;
  const least = anyPort ? 0 : 1;
  if (port >= least && port <= PORT_MAX) return { host, port };
  return {
    wanted: `host:port with a port from ${least} to ${PORT_MAX}`,
    hint: `for example "${text.slice(0, text.length - portText.length)}${examplePort}"`,
  };
}

/** A host name (RFC 1123, and underscores, which container networks use) or an IPv4 address; digits alone are the latter. */
function isName(host: string): boolean {
  if (/^[\d.]+$/.test(host)) return isIPv4(host);
  return host.length <= 253 && /^[\p{L}\p{N}_](?:[\p{L}\p{N}_.-]*[\p{L}\p{N}_.])?$/u.test(host);
}

/** `http://host:port/path` or `https://...`; the port may be left out. */
export function parseWebAddress(text: string): WebAddress | AddressFault {
  const [, scheme = "", authority = "", path = ""] = /^(https?):\/\/([^/?#]*)(.*)$/i.exec(text) ?? [];
  if (scheme === "") {
    return { wanted: "an address with http:// or https://", hint: 'for example "http://localhost:8000"' };
  }
  const secure = scheme.toLowerCase() === "https";
  const place = parseHostPort(authority, { defaultPort: secure ? 443 : 80 });
  if (isFault(place)) return { ...place, wanted: `${scheme}://${place.wanted}` };
  if (/\s/.test(path) || !URL.canParse(text)) {
    return { wanted: "an address without spaces", hint: 'for example "http://localhost:8000/metrics"' };
  }
  return { ...place, secure, path };
}

/** The socket behind `unix:/path` or `unix:///path`, and the page behind it in `unix:/path:/page`. */
export function parseUnixSocket(text: string): UnixSocket | undefined {
  const [, socket, page] = /^unix:(?:\/\/)?(\/[^\s:]+)(?::(\/\S*))?$/.exec(text) ?? [];
  if (socket === undefined) return undefined;
  return page === undefined ? { socket } : { socket, page };
}

/** `host:port`, or `[::1]:port` for an IPv6 address. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The TCP port of any address, one of a resolver (`dns:///host:port`) too; undefined where it has none. */
export function portOf(address: string): number | undefined {
  const web = parseWebAddress(address);
  if (!isFault(web)) return web.port;
  const place = parseHostPort(withoutResolver(address));
  return isFault(place) ? undefined : place.port;
}

/**
 * The name of a server that was given none, short enough for a legend: `vllm:8000` on this host, `vllm@gpu7:8000`
 * elsewhere. The scheme and a path `/metrics` go without saying; credentials are masked.
 */
export function serverName(type: string, address: string): string {
  const place = withoutResolver(shownAddress(address))
    .replace(/^https?:\/\//i, "")
    .replace(/^([^/?]*)\/(?:metrics\/?)?$/, "$1");
  const [, path] = /^(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?((?:[/?].*)?)$/i.exec(place) ?? [];
  const port = portOf(address);
  return path === undefined || port === undefined ? `${type}@${place}` : `${type}:${port}${path}`;
}

/** The address behind a resolver's name, which gRPC takes: `dns:///host:port`, `ipv4:...`, `ipv6:...`. */
export function withoutResolver(address: string): string {
  return address.replace(/^(?:grpc:\/\/|(?:dns|ipv4|ipv6):(?:\/\/[^/]*\/)?)/, "");
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Whether a host, without brackets, is this one whatever its network: localhost, 127.0.0.0/8, ::1, and IPv4 as IPv6. */
export function isLoopbackHost(host: string): boolean {
  const family = isIP(host);
  if (family === 0) return /^localhost\.?$/i.test(host);
  return loopback.check(host, family === 4 ? "ipv4" : "ipv6");
}

/** Whether a text was no address. */
export function isFault(parsed: Parsed): parsed is AddressFault {
  return "wanted" in parsed;
}

/** A text of the configuration that must be an address; empty where `parse` says nothing of it. */
export function addressText(parse: (text: string) => Parsed | undefined): z.ZodString {
  return z.string().superRefine((text, context) => {
    const parsed = parse(text);
    if (parsed === undefined || !isFault(parsed)) return;
    context.addIssue({ code: "custom", message: parsed.wanted, params: { hint: parsed.hint }, input: text });
  });
}

const MASK = "********";
/** Parts of a query that say which page is meant, and are no secret. */
const OPEN_QUERY =
  /^(?:name|collect|match|filter|module|target|format|model|autoload|debug|path|port|metric|include|exclude)(?:\[\])?$/i;

/** A web address without user name, password and what its query may hold of secrets: the only form in which it is shown. */
export function shownAddress(text: string): string {
  const bare = text.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i, `$1${MASK}@`);
  const at = bare.indexOf("?");
  if (at < 0) return bare;
  const shown = bare
    .slice(at + 1)
    .replaceAll(/([^&#=]+)=([^&#]*)/g, (part, name: string) =>
      OPEN_QUERY.test(decoded(name)) ? part : `${name}=${MASK}`,
    );
  return `${bare.slice(0, at)}?${shown}`;
}

/** The user name and password of a web address, and the address without them. */
export function splitCredentials(text: string): { readonly address: string; readonly credentials?: string } {
  const [, scheme, credentials, rest] = /^(https?:\/\/)([^/?#]*)@(.*)$/is.exec(text) ?? [];
  if (scheme === undefined || credentials === undefined || rest === undefined) return { address: text };
  return { address: scheme + rest, credentials: decoded(credentials) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
