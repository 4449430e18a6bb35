// A real tritonserver on free ports of loopback, with the models beside this file and the back end of backend.c.
import type { ChildProcess } from "node:child_process";
import { execFile, execFileSync, spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { toolsFolder } from "../tools-folder.ts";

const tools = join(toolsFolder, "triton");
const python = join(tools, "bin/python");
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** A running Triton. */
export interface Triton {
  readonly grpc: string;
  readonly page: string;
  readonly http: string;
  /** The ports of HTTP, gRPC and metrics. */
  readonly ports: readonly number[];
  /** Sends requests by Triton's own client: a line per request, responses or error. */
  send(model: string, ...counts: readonly (number | string)[]): Promise<string[]>;
  /** How it ended by itself, or undefined while it runs. */
  died(): string | undefined;
  stop(): Promise<void>;
}

/** What a real Triton needs and this machine lacks, or undefined where it can run. */
export function missing(): string | undefined {
  if (!existsSync(python)) return `${python} is not here; run test/e2e/install-tools.sh`;
  try {
    execFileSync("gcc", ["--version"], { stdio: "ignore" });
    const stub = join(stubFolder(), "triton_python_backend_stub");
    const libraries = execFileSync("ldd", [stub], { env: environment(), encoding: "utf8" });
    return /not found/.exec(libraries) === null ? undefined : `libraries are missing:\n${libraries}`;
  } catch (error) {
    return String(error);
  }
}

/** Starts Triton with more arguments; resolves once its three ports, free ones by default, are served. */
export async function startTriton(more: readonly string[] = [], listen?: readonly number[]): Promise<Triton> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-triton-"));
  const backEnds = assembleBackEnds(folder);
  const library = join(backEnds, "counted/libtriton_counted.so");
  execFileSync("gcc", ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, here("backend.c")]);
  const models = join(folder, "models");
  cpSync(here("models"), models, { recursive: true });
  mkdirSync(join(models, "counted/1"));
  const listening = listen ?? (await freePorts());
  const [http, grpc, page] = listening;
  const addresses = ["http", "grpc", "metrics"].map((name) => `--${name}-address=127.0.0.1`);
  const ports = [`--http-port=${http}`, `--grpc-port=${grpc}`, `--metrics-port=${page}`];
  const child = spawn(
    join(packages(), "pytriton/tritonserver/bin/tritonserver"),
    [`--model-repository=${models}`, `--backend-directory=${backEnds}`, ...addresses, ...ports, ...more],
    { env: environment(), stdio: ["ignore", "ignore", "pipe"] },
  );
  const stop = async (): Promise<void> => {
    await ended(child);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await ready(child);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    grpc: `127.0.0.1:${grpc}`,
    page: `http://127.0.0.1:${page}/metrics`,
    http: `127.0.0.1:${http}`,
    ports: listening,
    send: async (model, ...counts) => {
      const args = [here("requests.py"), `127.0.0.1:${grpc}`, model, ...counts.map(String)];
      const { stdout } = await promisify(execFile)(python, args, { timeout: 60_000 });
      return stdout.trim().split("\n");
    },
    died: () => (child.signalCode ?? child.exitCode ?? undefined)?.toString(),
    stop,
  };
}

/** Files of an authority in a folder, and of a server and a client that it signed: `<name>.pem` and `<name>.key`. */
export function certificates(folder: string): void {
  const openssl = (...args: string[]): void =>
    void execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...key, "-subj", "/CN=ca", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem");
  writeFileSync(join(folder, "ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  for (const name of ["server", "client"]) {
    openssl("req", ...key, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
    const signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext"];
    openssl("x509", "-req", "-in", `${name}.csr`, ...signed, "-out", `${name}.pem`);
  }
}

function packages(): string {
  const version = readdirSync(join(tools, "lib")).find((name) => name.startsWith("python3")) ?? "python3";
  return join(tools, "lib", version, "site-packages");
}

/** Where the wheel keeps the python back end's process for this version of python. */
function stubFolder(): string {
  const version = /python(3\.\d+)/.exec(packages())?.[1] ?? "";
  return join(packages(), "pytriton/tritonserver/python_backend_stubs", version);
}

/** A folder as Triton wants it: the python back end with the stub of this python's version, and one for backend.c. */
function assembleBackEnds(folder: string): string {
  const sources = [join(packages(), "pytriton/tritonserver/backends/python"), stubFolder()];
  mkdirSync(join(folder, "back-ends/python"), { recursive: true });
  mkdirSync(join(folder, "back-ends/counted"));
  for (const source of sources) {
    for (const name of readdirSync(source).filter((each) => each !== "__pycache__"))
      symlinkSync(join(source, name), join(folder, "back-ends/python", name));
  }
  return join(folder, "back-ends");
}

function environment(): Record<string, string> {
  const libraries = execFileSync(python, [
    "-c",
    "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))",
  ]);
  return {
    PATH: `${join(tools, "bin")}:${process.env["PATH"]}`,
    PYTHONPATH: packages(),
    PYTHONDONTWRITEBYTECODE: "1",
    LD_LIBRARY_PATH: libraries.toString().trim(),
  };
}

async function freePorts(): Promise<number[]> {
  const held = await Promise.all(
    [1, 2, 3].map(async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return server;
    }),
  );
  const ports = held.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Resolves when the metrics service, the last of the three, is up. */
function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = "";
    child.stderr?.on("data", (data: Buffer) => {
      seen = (seen + data.toString()).slice(-20_000);
      if (seen.includes("Started Metrics Service")) resolve();
    });
    child.once("exit", (code) => reject(new Error(`tritonserver ended with ${code}: ${seen}`)));
    child.once("error", reject);
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const deadline = setTimeout(() => child.kill("SIGKILL"), 20_000);
  await exit;
  clearTimeout(deadline);
}
