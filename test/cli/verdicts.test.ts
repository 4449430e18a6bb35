// `config check`, `doctor` and `run` judge a configuration alike, the files it names included. Each row is tried with all
// three, so none may accept what another refuses, hang, or answer with a stack trace.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCommand } from "./capture-io.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-verdicts-"));
const tls = fileURLToPath(new URL("../fixtures/tls", import.meta.url));
const traces = fileURLToPath(new URL("../fixtures/traces", import.meta.url));

beforeAll(() => {
  const write = (name: string, content: string): void => writeFileSync(join(folder, name), content);
  execFileSync("mkfifo", [join(folder, "pipe")]);
  mkdirSync(join(folder, "folder"));
  for (const huge of ["huge.yaml", "huge.token"]) {
    write(huge, "");
    truncateSync(join(folder, huge), 2 * 1024 * 1024);
  }
  write("prices.yaml", 'version: "1"\ncurrency: USD\ngpus: [{ gpu: H100, pricePerGpuHour: 3 }]\n');
  const quota = "{ name: q, count: tokens, limit: 5, per: day }";
  write("policy.yaml", `version: "1"\ntimeZone: Asia/Kathmandu\nquotas: [${quota}]\n`);
  write("twice.yaml", `version: "1"\nquotas: [${quota}, ${quota}]\n`);
  write(
    "costs.yaml",
    'version: "1"\nquotas: [{ name: q, count: cost, currency: USD, limit: 5, per: day }]\n',
  );
  write("mars.yaml", 'version: "1"\ntimeZone: Mars/Olympus\n');
  write("share.yaml", `version: "1"\nquotas:\n  - ${quota.replace("per", "hostShar: 1, per")}\n`);
  write("cheap.yaml", 'version: "1"\ncurrency: USD\ngpus:\n  - { gpu: H100, pricePerGpuHour: cheap }\n');
  write("keys.yaml", 'version: "1"\ncurrency: USD\ngpuz: []\n');
  write("garbage.bin", "\u0000\u0001\ufffd{{{:\n\t[");
  write("empty", "");
  write("token", "s3cret\n");
  write("two-words", "two words\n");
  write("bad-headers", "name: caf\u00e9 \u0007\n");
  write("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
});
afterAll(() => rmSync(folder, { recursive: true }));

const certificate = (name: string): string => join(tls, `${name}.pem`);
const key = (name: string): string => join(tls, `${name}.key`);
const otlp = (keys: string): string => `export: { otlp: { endpoint: "", ${keys} } }\n`;
const listen = (keys: string): string => `export: { prometheus: { listen: "127.0.0.1:0", ${keys} } }\n`;
const server = (keys: string): string => `servers: { vllm: [{ endpoint: "127.0.0.1:9", ${keys} }] }\n`;
const laughs = `a: &a [x, x, x, x, x, x, x, x, x]
${["b", "c", "d", "e", "f", "g"].map((name, index) => `${name}: &${name} [${Array(9).fill(`*${"abcdef"[index]}`)}]`).join("\n")}
`;

/** What is written, and what every command says of it; no words = it is accepted. */
const rows: readonly (readonly [what: string, yaml: string, words?: string])[] = [
  ["an empty file", ""],
  ["prices", "prices: prices.yaml\n"],
  ["a policy", "policy: policy.yaml\n"],
  ["a quota of money beside prices", "prices: prices.yaml\npolicy: costs.yaml\n"],
  ["a token of the collector", otlp("bearerFile: token")],
  [
    "certificates of the endpoint",
    listen(`tls: { certFile: ${certificate("trusted-server")}, keyFile: ${key("trusted-server")} }`),
  ],
  ["UUIDs of GPUs", server("gpus: [GPU-2c2b5b6c-1d5f-9c0e-3f0a-8f3e5b1a2c4d, MIG-GPU-2c2b5b6c/1/0]")],
  [
    "the index of a GPU",
    server("gpus: [0]"),
    "Cannot read servers.vllm[0].gpus[0] as the UUID of a GPU: got 0",
  ],
  ["a GPU's index as text", server('gpus: ["0"]'), "`nvidia-smi -L` prints them"],
  ["certificates of a server", server(`tls: { caFile: ${certificate("trusted-ca")} }`)],
  ["an anchor used twice", "resource: &r { a: b }\naliases: *r\n"],

  ["a missing price file", "prices: nowhere.yaml\n", "nowhere.yaml: there is no such file"],
  ["a price file of garbage", "prices: garbage.bin\n", "garbage.bin:"],
  ["an empty price file", "prices: empty\n", "Cannot find version: wanted text"],
  ["a price that is no number", "prices: cheap.yaml\n", "cheap.yaml:4:18"],
  ["an unknown key in the price file", "prices: keys.yaml\n", 'did you mean "gpus"?'],
  ["a pipe for prices", "prices: pipe\n", "it is a pipe, wanted a regular file"],
  ["a device for prices", "prices: /dev/zero\n", "it is a device, wanted a regular file"],
  ["a folder for prices", "prices: folder\n", "it is a folder, wanted a regular file"],
  ["a huge price file", "prices: huge.yaml\n", "it has 2097152 bytes, wanted at most 1048576"],
  ["the price file's name as a list", "prices: [a]\n", "Cannot read prices as text"],

  ["a missing policy file", "policy: nowhere.yaml\n", "Cannot read policy file"],
  ["a policy of garbage", "policy: garbage.bin\n", "garbage.bin:"],
  ["two quotas of one name", "policy: twice.yaml\n", '"q" is already the name of quotas[0]'],
  ["a quota of money without prices", "policy: costs.yaml\n", "the configuration names no price file"],
  ["a time zone there is none of", "policy: mars.yaml\n", "a time zone of the IANA database"],
  ["an unknown key in a quota", "policy: share.yaml\n", 'did you mean "hostShare"?'],
  ["a pipe for a policy", "policy: pipe\n", "it is a pipe, wanted a regular file"],

  ["a port beyond 65535", listen("tenants: true").replace(":0", ":70000"), "export.prometheus.listen"],
  [
    "a server's port beyond 65535",
    'servers: { vllm: [{ endpoint: "a:70000" }] }\n',
    "servers.vllm[0].endpoint",
  ],
  [
    "a collector's port beyond 65535",
    'export: { otlp: { endpoint: "http://a:70000" } }\n',
    "export.otlp.endpoint",
  ],

  [
    "a password in a server's address that is not of the web",
    'servers: { token-counters: [{ endpoint: "reader:s3cret@h:1" }] }\n',
    "credentials go into `bearerFile` or `headers`",
  ],
  [
    "a password in the collector's address",
    'export: { otlp: { endpoint: "http://writer:s3cret@h:4317" } }\n',
    "credentials go into `bearerFile` or `headers`",
  ],
  ["an exporter's page that is no address", "gpu: { dcgm-exporter: { url: h } }\n", "gpu.dcgm-exporter.url"],

  ["an anchor that holds itself", "resource: &r {x: *r}\n", "alias *r stands inside of what it means"],
  ["an alias without an anchor", "resource: *r\n", "alias *r has no anchor before it"],
  ["aliases of aliases of aliases", laughs, "stand for more than 10000 values"],
  ["a key that stands twice", "logLevel: info\nlogLevel: info\n", "this key stands in its section already"],
  ["a tab", "export:\n\tprometheus: {}\n", "indent with spaces"],
  ["a tag", "logLevel: !secret level\n", "unresolved tag"],
  [
    "deep nesting",
    `resource: ${"[".repeat(200)}${"]".repeat(200)}\n`,
    "more than 100 sections inside of one another",
  ],
  ["a section for a key", "? [a, b]\n: c\n", "a key must be a word"],
  ["a key of JavaScript", "resource: { __proto__: { a: 1 } }\n", "this key cannot be used"],
  ["a number that is none", "rates: { gpuMs: .nan }\n", "got NaN"],
  [
    "words that move a cursor",
    'export: { otlp: { compression: "\\u009b2J\\u202e" } }\n',
    'got "\\u009b2J\\u202e"',
  ],
  ["two documents", "logLevel: info\n---\nlogLevel: info\n", "keep one document"],
  ["a list", "- a\n", "Cannot read the configuration as a section of keys"],
  ["a word where a section stands", "rates: fast\n", "Cannot read rates as a section of keys"],

  ["a missing token", otlp("bearerFile: nowhere"), "export.otlp.bearerFile"],
  ["an empty token", otlp("bearerFile: empty"), "it is empty, wanted a token"],
  ["a token of two words", otlp("bearerFile: two-words"), "more than one word"],
  ["a pipe for a token", otlp("bearerFile: pipe"), "it is a pipe"],
  ["a huge token", otlp("bearerFile: huge.token"), "it has 2097152 bytes"],
  ["a token of a server that is not there", server("bearerFile: nowhere"), "servers.vllm[0].bearerFile"],
  ["headers that cannot be sent", otlp("headersFile: bad-headers"), "not printable ASCII"],
  ["a header whose name cannot be sent", otlp('headers: { "x team": s3cret }'), "letters, digits and dashes"],
  ["a header of bytes", server("headers: { x-bin: s3cret }"), "names that end in -bin are for bytes"],
  ["a header of two lines", server('headers: { x: "s3cret\\nhost: b" }'), "printable ASCII on one line"],
  ["an authority of garbage", otlp("tls: { caFile: garbage.pem }"), "certificate 1 of 1 cannot be read"],
  ["an authority that is a token", otlp("tls: { caFile: token }"), "it holds no certificate"],
  ["a device for an authority", server("tls: { caFile: /dev/zero }"), "it is a device"],
  [
    "a certificate and another's key",
    listen(`tls: { certFile: ${certificate("trusted-server")}, keyFile: ${key("stranger-server")} }`),
    "it is not the key of",
  ],
  [
    "a certificate for a key",
    listen(`tls: { certFile: ${certificate("trusted-server")}, keyFile: ${certificate("trusted-server")} }`),
    "it holds no private key",
  ],
  [
    "a token of a receiver that is not there",
    'servers: { usage-reports: [{ endpoint: "127.0.0.1:9466", bearerFile: nowhere }] }\n',
    "bearerFile",
  ],
  [
    "a recording that is not there",
    "gpu: { backend: replay, replay: { path: /nowhere } }\n",
    "Cannot open recording",
  ],
  ["a pipe for a recorded server", "servers: { replay: [{ path: pipe }] }\n", "Cannot read pipe"],
];

let files = 0;

interface Judgement {
  readonly refused: boolean;
  readonly text: string;
}

async function verdicts(yaml: string): Promise<readonly Judgement[]> {
  const config = join(folder, `config-${files++}.yaml`);
  writeFileSync(config, yaml);
  return judge(config);
}

async function judge(config: string): Promise<readonly Judgement[]> {
  const given = ["--config", config, "--set", `stateDir=${join(folder, "state")}`, "--set", "logLevel=error"];
  const quiet = [
    ...["--set", `gpu.replay.path=${join(traces, "h100-solo-8b")}`, "--set", "gpu.backend=replay"],
    ...["--set", "discovery.enabled=false", "--set", "discovery.kubernetes=off"],
    ...["--set", "export.prometheus.listen=127.0.0.1:0"],
  ];
  const check = await runCommand(["config", "check", ...given]);
  const doctor = await runCommand(["doctor", "--only", "config.valid", ...given]);
  // Only what is accepted starts anything: GPUs from a recording, an address of its own, and a moment of it.
  const start = check.exitCode === 0 ? [...quiet, "--duration", "1ms"] : ["--duration", "1ms"];
  const run = await runCommand(["run", ...given, ...start]);
  return [check, doctor, run].map(({ exitCode, stderr, stdout }) => ({
    refused: exitCode === 2,
    text: `${stdout}${stderr}`,
  }));
}

describe("config check, doctor and run", () => {
  test.each(rows)("judge %s alike", async (_what, yaml = "", words) => {
    for (const { refused, text } of await verdicts(yaml)) {
      expect(text).not.toMatch(/this is a bug|\n\s+at .*:\d+:\d+\)?\n/);
      expect(text).not.toContain("s3cret");
      expect(refused, text).toBe(words !== undefined);
      if (words !== undefined) expect(text).toContain(words);
    }
  });

  test.each([
    ["nowhere.yaml", "there is no such file"],
    ["pipe", "it is a pipe, wanted a regular file"],
    ["/dev/zero", "it is a device, wanted a regular file"],
    ["folder", "it is a folder, wanted a regular file"],
    ["huge.yaml", "it has 2097152 bytes, wanted at most 1048576"],
    ["garbage.bin", "Cannot read YAML"],
  ])("refuse the configuration file %s alike", async (name = "", words = "") => {
    for (const { refused, text } of await judge(name.startsWith("/") ? name : join(folder, name))) {
      expect(refused, text).toBe(true);
      expect(text).toContain(words);
    }
  });

  test("say what is wrong with the configuration, its files and its prices at once", async () => {
    const yaml = `logLevel: loud\nprices: cheap.yaml\n${otlp("bearerFile: nowhere")}${server("tls: 5")}`;
    for (const { refused, text } of await verdicts(yaml)) {
      expect(refused).toBe(true);
      for (const words of ["servers.vllm[0].tls", "cheap.yaml:4:18", "export.otlp.bearerFile"])
        expect(text).toContain(words);
    }
  });
});
