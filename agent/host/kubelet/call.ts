// One call of a kubelet API on its unix socket. The channel lives as long as the call: a restarted kubelet makes a new
// socket under the same name. A node with many pods answers more than gRPC's usual 4 MiB (dcgm-exporter#509).
import { statSync } from "node:fs";
import { callMetadata, openChannel, serviceDefinition, status } from "../../platform/grpc.ts";
import type { SourceContext } from "../../source.ts";
import { SourceError } from "../../source.ts";

const RECEIVE_BYTES = 32 * 1024 * 1024;
const TIMEOUT_MS = 5000;
const ROOT_ONLY = "the socket answers to uid 0 only; all capabilities may be dropped";

/** A method that takes an empty request, by the file that describes it. */
export interface KubeletMethod {
  readonly file: string;
  readonly service: string;
  readonly method: string;
  /** Packages the service may have, newest first; default that of `service`. */
  readonly packages?: readonly string[];
  /** What cannot be done without it, for messages. */
  readonly what: string;
}

/**
 * The answer. Throws SourceError: `absent` where there is no such socket or service, `transient` when it does not answer.
 * Call it on a timer, not in the path of an export.
 */
export async function callKubelet(
  { clock }: Pick<SourceContext, "clock">,
  socket: string,
  { file, service, method, packages, what }: KubeletMethod,
): Promise<unknown> {
  lookAt(socket, what);
  const definition = (await serviceDefinition(file, service))[method];
  if (definition === undefined) throw new Error(`the method ${method} is missing in ${file}`);
  const { path, requestSerialize, responseDeserialize } = definition;
  const target = { target: `unix:${socket}`, receiveBytesMax: RECEIVE_BYTES };
  const channel = openChannel(target, { "grpc.use_local_subchannel_pool": 1 });
  const call = (methodPath: string): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const call = channel.makeUnaryRequest(
        methodPath,
        requestSerialize,
        responseDeserialize,
        {},
        callMetadata(target),
        (error, value) => {
          cancel();
          if (error === null) resolve(value);
          else reject(error);
        },
      );
      const cancel = clock.at(clock.now() + TIMEOUT_MS * 1e6, () => call.cancel());
    });
  const name = service.split(".").at(-1);
  const paths = packages?.map((one) => `/${one}.${name}/${method}`) ?? [path];
  try {
    for (const one of paths) {
      try {
        return await call(one);
      } catch (error) {
        if ((error as { code?: number }).code !== status.UNIMPLEMENTED) throw error;
      }
    }
  } catch (cause) {
    const { code, details } = cause as { code?: number; details?: string };
    const hint = code === status.UNAVAILABLE ? ROOT_ONLY : undefined;
    throw new SourceError("transient", `Cannot ${what} at ${socket}: ${details ?? String(cause)}`, {
      cause,
      ...(hint === undefined ? {} : { hint }),
    });
  } finally {
    channel.close();
  }
  throw new SourceError("absent", `Cannot ${what}: ${socket} knows none of ${paths.join(", ")}`);
}

/** Throws where there is no socket, or none this user may look at. */
function lookAt(socket: string, what: string): void {
  try {
    statSync(socket);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new SourceError("absent", `Cannot ${what}: there is no socket ${socket}`, { cause });
    const message = `Cannot ${what}: ${socket} cannot be looked at (${code}) by uid ${process.getuid?.()}`;
    throw new SourceError("transient", message, { cause, hint: ROOT_ONLY });
  }
}
