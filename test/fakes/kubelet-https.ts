// A kubelet's HTTPS port that answers /pods as JSON over real TLS, to whoever shows its token.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FakeCertificate } from "./certificates.ts";
import { fakeCertificate } from "./certificates.ts";

/** A running fake; `body` and `status` may be replaced at any time. */
export interface FakeKubeletHttps {
  readonly endpoint: string;
  readonly tokenFile: string;
  readonly caFile: string;
  readonly asked: string[];
  status: number;
  body: string;
  close(): void;
}

/** Starts one, with a certificate of an authority of its own or with the one given. */
export async function fakeKubeletHttps(own?: FakeCertificate): Promise<FakeKubeletHttps> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-kubelet-https-"));
  const authority = fakeCertificate("cluster-ca");
  const { cert, key } = own ?? fakeCertificate("node-1", { addresses: ["127.0.0.1"], issuer: authority });
  const [tokenFile, caFile] = [join(folder, "token"), join(folder, "ca.crt")];
  writeFileSync(tokenFile, "a-token\n");
  writeFileSync(caFile, authority.cert);
  const server = createServer({ cert, key }, (request, response) => {
    fake.asked.push(`${request.method} ${request.url}`);
    const known = request.headers.authorization === "Bearer a-token";
    response.writeHead(known ? fake.status : 401).end(known ? fake.body : "Unauthorized");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const fake: FakeKubeletHttps = {
    endpoint: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    tokenFile,
    caFile,
    asked: [],
    status: 200,
    body: '{"kind":"PodList","items":[]}',
    close: () => {
      server.close();
      server.closeAllConnections();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return fake;
}
