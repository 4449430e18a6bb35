// One GET from the kubelet's HTTPS port with a service account's token, for kubelets without the Pods API.
// The right needed is `get` on nodes/pods (KEP-2862: alpha 1.32, beta 1.33, stable 1.36); nodes/proxy would let its
// holder run commands in any container, so it is never asked for. Serving certificates are signed by the cluster where
// serverTLSBootstrap is on; else the kubelet signs its own, for its host name alone (kubeadm#1223, #1602).
import type { IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { FileError } from "../../platform/files.ts";
import { readTextOf } from "../../platform/files.ts";
import type { SourceContext } from "../../source.ts";
import { SourceError } from "../../source.ts";

const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";
/** Where Kubernetes puts the token of a pod's service account, and the cluster's certificates. */
export const accountTokenFile = `${ACCOUNT}/token`;
/** The certificate authority a pod is given for its cluster. */
export const accountCaFile = `${ACCOUNT}/ca.crt`;

/** Where the kubelet answers and what is shown to it. Files are read again for each request: tokens rotate. */
export interface KubeletHttps {
  /** `https://host:port`. */
  readonly endpoint: string;
  readonly tokenFile: string;
  readonly caFile: string;
  /** The name its certificate must bear; default the endpoint's host. */
  readonly serverName?: string | undefined;
  /** Whoever answers is believed, and is shown the token. */
  readonly insecureSkipVerify: boolean;
}

const TIMEOUT_MS = 5000;
const BYTES_MAX = 32 * 1024 * 1024;
const OWN_CERTIFICATE =
  "a kubelet without serverTLSBootstrap signs its own certificate: name that (/var/lib/kubelet/pki/kubelet.crt on " +
  "the node) as discovery.kubelet.caFile, or believe any with discovery.kubelet.insecureSkipVerify: true";

/** The body of `path`, at most 32 MiB. Throws SourceError (transient) with what to do. */
export async function getFromKubelet(
  { clock }: Pick<SourceContext, "clock">,
  kubelet: KubeletHttps,
  path: string,
): Promise<string> {
  const what = `Cannot read ${kubelet.endpoint}${path}`;
  const stop = new AbortController();
  const cancel = clock.at(clock.now() + TIMEOUT_MS * 1e6, () => stop.abort());
  try {
    const response = await send(kubelet, path, stop.signal);
    const body = await bodyOf(response, what);
    if (response.statusCode === 200) return body;
    const said = `${what}: it answers ${response.statusCode} ${response.statusMessage ?? ""}`.trim();
    throw new SourceError("transient", said, hintOf(HINTS[response.statusCode ?? 0]));
  } catch (error) {
    if (error instanceof SourceError) throw error;
    const { code = "", message } = error as NodeJS.ErrnoException;
    const reason = stop.signal.aborted ? `no full answer within ${TIMEOUT_MS / 1000} s` : message;
    throw new SourceError("transient", `${what}: ${reason}`, { cause: error, ...hintOf(TLS_HINTS[code]) });
  } finally {
    cancel();
  }
}

function send(kubelet: KubeletHttps, path: string, signal: AbortSignal): Promise<IncomingMessage> {
  const { endpoint, insecureSkipVerify, serverName } = kubelet;
  const { hostname, port } = new URL(endpoint);
  const authorization = `Bearer ${fileOf(kubelet.tokenFile, kubelet).trim()}`;
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        hostname: hostname.replaceAll(/[[\]]/g, ""),
        port,
        path,
        headers: { authorization, accept: "application/json" },
        agent: false,
        signal,
        rejectUnauthorized: !insecureSkipVerify,
        ...(insecureSkipVerify ? {} : { ca: fileOf(kubelet.caFile, kubelet) }),
        ...(serverName === undefined ? {} : { servername: serverName }),
      },
      resolve,
    );
    request.on("error", reject);
    request.end();
  });
}

function fileOf(path: string, { endpoint }: KubeletHttps): string {
  try {
    return readTextOf(path);
  } catch (cause) {
    const message = `Cannot ask ${endpoint}: its file ${path}: ${(cause as FileError).reason}`;
    const hint = "a pod has it with automountServiceAccountToken: true (chart value kubelet.https)";
    throw new SourceError("transient", message, { cause, hint });
  }
}

async function bodyOf(response: IncomingMessage, what: string): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    length += (chunk as Buffer).length;
    if (length > BYTES_MAX) {
      response.destroy();
      throw new SourceError("transient", `${what}: the answer is larger than ${BYTES_MAX} bytes`);
    }
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}

const HINTS: Readonly<Record<number, string>> = {
  401: "the token is not one of this cluster, or the kubelet takes none (authentication.webhook)",
  403:
    "bind the service account to a ClusterRole with `get` on nodes/pods (chart value kubelet.https: true); kubelets " +
    "older than 1.33 know no such right, and nodes/proxy is too much to give",
};
const TLS_HINTS: Readonly<Record<string, string>> = {
  SELF_SIGNED_CERT_IN_CHAIN: OWN_CERTIFICATE,
  DEPTH_ZERO_SELF_SIGNED_CERT: OWN_CERTIFICATE,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: OWN_CERTIFICATE,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: OWN_CERTIFICATE,
  ERR_TLS_CERT_ALTNAME_INVALID:
    "the certificate bears another name: set discovery.kubelet.serverName, mostly the node's name",
  ECONNREFUSED: "the kubelet's port is 10250; hostNetwork is not needed, a network policy may be in the way",
};

function hintOf(hint: string | undefined): { readonly hint?: string } {
  return hint === undefined ? {} : { hint };
}
