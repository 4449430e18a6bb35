// Certificates of test/fixtures/tls: authorities `trusted`, `stranger` and `elsewhere`, whose server has another name.
// They were made by test/tools/authority.ts and are valid from 2020 to 2126.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ServerCredentials } from "../../agent/platform/grpc.ts";

/** Path of a file of test/fixtures/tls, such as `trusted-server.pem`. */
export function pem(name: string): string {
  return fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));
}

/** What a gRPC server of authority `name` shows, and whose clients it answers (absent: all). */
export function serverCredentials(name: string, clients?: string): ServerCredentials {
  const pair = {
    private_key: readFileSync(pem(`${name}-server.key`)),
    cert_chain: readFileSync(pem(`${name}-server.pem`)),
  };
  const ca = clients === undefined ? null : readFileSync(pem(`${clients}-ca.pem`));
  return ServerCredentials.createSsl(ca, [pair], clients !== undefined);
}

/** The keys of a client: whom it trusts and, with `identity`, whose certificate it shows. */
export function clientFiles(trusts: string, identity?: string) {
  return {
    caFile: pem(`${trusts}-ca.pem`),
    ...(identity === undefined
      ? {}
      : { certFile: pem(`${identity}-client.pem`), keyFile: pem(`${identity}-client.key`) }),
  };
}
