// X.509 certificates made on the spot (RFC 5280, ECDSA P-256), so that TLS is tested without openssl and without keys that
// lie in the repository or end one day.
import type { KeyObject } from "node:crypto";
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";

export interface FakeCertificate {
  readonly cert: string;
  readonly key: string;
  readonly name: string;
  readonly privateKey: KeyObject;
}

const ECDSA_SHA256 = sequence(oid("1.2.840.10045.4.3.2"));
const DAY_MS = 86_400_000;

/**
 * A certificate for names and IPv4 addresses; without an issuer it signs itself and may sign others. It
 * is valid for a day, or `until` an instant of unix milliseconds.
 */
export function fakeCertificate(
  name: string,
  {
    addresses = [],
    issuer,
    names = [],
    until = Date.now() + DAY_MS,
  }: Partial<{ names: string[]; addresses: string[]; issuer: FakeCertificate; until: number }> = {},
): FakeCertificate {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const alternatives = [
    ...names.map((one) => tagged(0x82, Buffer.from(one))),
    ...addresses.map((one) => tagged(0x87, Buffer.from(one.split(".").map(Number)))),
  ];
  const authority = issuer === undefined ? sequence(tagged(0x01, Buffer.from([0xff]))) : sequence();
  const extensions = [
    extension("2.5.29.19", authority),
    ...(alternatives.length === 0 ? [] : [extension("2.5.29.17", sequence(...alternatives))]),
  ];
  const body = sequence(
    tagged(0xa0, tagged(0x02, Buffer.from([2]))),
    tagged(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    ECDSA_SHA256,
    commonName(issuer?.name ?? name),
    sequence(time(Math.min(Date.now(), until) - DAY_MS), time(until)),
    commonName(name),
    publicKey.export({ type: "spki", format: "der" }),
    tagged(0xa3, sequence(...extensions)),
  );
  const signature = sign("sha256", body, issuer?.privateKey ?? privateKey);
  const der = sequence(body, ECDSA_SHA256, tagged(0x03, Buffer.concat([Buffer.from([0]), signature])));
  const lines = der.toString("base64").replaceAll(/.{64}/g, "$&\n");
  return {
    name,
    privateKey,
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
  };
}

function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

function sequence(...parts: Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split(".").map(Number);
  const bytes = [40 * first + second];
  for (const arc of rest) {
    const groups = [arc & 127];
    for (let left = arc >> 7; left > 0; left >>= 7) groups.unshift((left & 127) | 128);
    bytes.push(...groups);
  }
  return tagged(0x06, Buffer.from(bytes));
}

function extension(id: string, value: Buffer): Buffer {
  return sequence(oid(id), tagged(0x04, value));
}

function commonName(name: string): Buffer {
  return sequence(tagged(0x31, sequence(oid("2.5.4.3"), tagged(0x0c, Buffer.from(name)))));
}

function time(at: number): Buffer {
  return tagged(0x18, Buffer.from(`${new Date(at).toISOString().replaceAll(/[-:T]/g, "").slice(0, 14)}Z`));
}
