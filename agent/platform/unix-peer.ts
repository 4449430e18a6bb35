// Who is behind a unix socket: the user of the process that connected, as the kernel noted it then (SO_PEERCRED, unix(7)).
// Node has no call for it, so libc's is made on the descriptor of the connection.
import type { Socket } from "node:net";

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

type Ask = (socket: number, level: number, name: number, value: Uint32Array, bytes: [number]) => number;
let asking: Promise<Ask> | undefined;

/** The user of the process behind a unix socket; undefined where it cannot be asked for. */
export async function unixPeerUser(socket: Socket): Promise<string | undefined> {
  const { _handle: handle } = socket as unknown as { readonly _handle?: { readonly fd?: number } };
  if (handle?.fd === undefined || handle.fd < 0) return undefined;
  try {
    asking ??= import("koffi").then(({ default: koffi }) =>
      koffi
        .load(null)
        .func(
          "int getsockopt(int socket, int level, int name, _Out_ uint32_t *value, _Inout_ uint32_t *bytes)",
        ),
    );
    // struct ucred: pid, uid, gid.
    const credentials = new Uint32Array(3);
    const result = (await asking)(handle.fd, SOL_SOCKET, SO_PEERCRED, credentials, [12]);
    return result === 0 ? `uid ${credentials[1]}` : undefined;
  } catch {
    return undefined;
  }
}
