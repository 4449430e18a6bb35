// A certificate authority of its own for tests, with a server and a client certificate; needs the openssl command.
// The fixtures in test/fixtures/tls were made by `node test/tools/authority.ts test/fixtures/tls`, so that `npm test`
// needs no tool. They are valid from 2020 to 2126; their keys are public and protect nothing.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** Whether openssl is there; says so loudly if not. */
export function hasOpenssl(): boolean {
  try {
    execFileSync("openssl", ["version"], { stdio: "pipe" });
    return true;
  } catch {
    console.warn("SKIPPED: TLS tests need the openssl command, which is not installed");
    return false;
  }
}

/**
 * Writes `<name>-ca.pem`, and `<name>-server` and `<name>-client` as .pem and .key, into `folder`. The server is called
 * localhost, 127.0.0.1 and ::1, or what `names` says.
 */
export function authority(folder: string, name: string, names = "DNS:localhost,IP:127.0.0.1,IP:::1"): void {
  const office = mkdtempSync(join(tmpdir(), "authority-"));
  const openssl = (...args: string[]): void =>
    void execFileSync("openssl", args, { cwd: office, stdio: "pipe" });
  writeFileSync(join(office, "index.txt"), "");
  writeFileSync(join(office, "serial"), "01\n");
  writeFileSync(join(office, "openssl.cnf"), config(names));
  const out = (file: string): string => resolve(folder, file);
  const signed = (stem: string, ...signer: string[]): void => {
    const key = [
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      out(`${stem}.key`),
    ];
    openssl("req", "-config", "openssl.cnf", ...key, "-subj", `/CN=${stem}`, "-out", "request");
    const lasting = ["-startdate", "20200101000000Z", "-enddate", "21260101000000Z"];
    const files = ["-in", "request", "-out", out(`${stem}.pem`), "-notext", "-batch"];
    openssl("ca", "-config", "openssl.cnf", ...lasting, ...files, ...signer);
  };
  const own = ["-keyfile", out(`${name}-ca.key`)];
  signed(`${name}-ca`, ...own, "-selfsign", "-extensions", "authority");
  for (const role of ["server", "client"])
    signed(`${name}-${role}`, ...own, "-cert", out(`${name}-ca.pem`), "-extensions", "peer");
  rmSync(office, { recursive: true });
}

const config = (names: string): string => `
[req]
distinguished_name = subject
[subject]
[ca]
default_ca = office
[office]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
unique_subject = no
[policy]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE
[peer]
subjectAltName = ${names}
`;

if (import.meta.main) {
  const folder = process.argv[2] ?? ".";
  mkdirSync(folder, { recursive: true });
  authority(folder, "trusted");
  authority(folder, "stranger");
  authority(folder, "elsewhere", "DNS:elsewhere.example");
  for (const needless of ["trusted-ca", "stranger-ca", "elsewhere-ca", "elsewhere-client"])
    rmSync(join(folder, `${needless}.key`));
  rmSync(join(folder, "elsewhere-client.pem"));
}
