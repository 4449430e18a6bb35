// Real python peers: pages of prometheus_client in one process and in several, and an OpenTelemetry SDK that pushes.
import { execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { probe } from "../../../agent/cli/probe-target.ts";
import type { TokenSample } from "../../../agent/model.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { openChannel } from "../../../agent/platform/grpc.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { reflectServices } from "../../../agent/servers/call/call.ts";
import { explainGrpcError } from "../../../agent/servers/call/errors.ts";
import { openOtlp, otlp } from "../../../agent/servers/otlp/index.ts";
import type { ReceiverKind } from "../../fakes/receivers.ts";
import { receiverKinds, runReceiver } from "../../fakes/receivers.ts";
import { clientFiles, pem } from "../../fakes/tls-files.ts";
import { toolsFolder } from "../tools-folder.ts";

const python = join(toolsFolder, "python/bin/python");
const usable = existsSync(python);
if (!usable)
  console.warn(`SKIPPED: python peers, because ${python} is not here; run test/e2e/install-tools.sh`);

const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** Starts a script that prints its port first. */
function start(
  name: string,
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const child = spawn(python, [script(name), ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  closing.push(() => child.kill());
  return new Promise((resolve, reject) => {
    child.stdout?.once("data", (data: Buffer) => resolve(data.toString().trim()));
    child.once("exit", (code) => reject(new Error(`${name} ended with ${code}`)));
  });
}

async function servePage(kind: "single" | "multi"): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-python-"));
  closing.push(() => rmSync(folder, { recursive: true }));
  const env: Record<string, string> = kind === "multi" ? { PROMETHEUS_MULTIPROC_DIR: folder } : {};
  return `http://127.0.0.1:${await start("metrics_server.py", [kind], env)}/metrics`;
}

describe.runIf(usable)("python peers", () => {
  test("a page of prometheus_client in one process", async () => {
    const result = await probe(await servePage("single"));
    expect(result).toMatchObject({ server: "vllm", ignored_samples: 0, errors: [] });
    expect(result.readings).toMatchObject([
      {
        model: "m",
        input_uncached: 2_000_000,
        input_cached: 1_000_000,
        input_unsplit: null,
        output: 1_400_002,
        running: 6,
        requests: { ok: 4 },
        // It names no start of the process, only that of each series, which is a base of its own.
        epoch: null,
      },
    ]);
  });

  test("a page of prometheus_client over several processes, without start times", async () => {
    const result = await probe(await servePage("multi"));
    expect(result).toMatchObject({ server: "sglang", errors: [] });
    expect(result.readings).toMatchObject([
      { model: "m", input_unsplit: 1230, output: 123, running: 2, epoch: null },
    ]);
  });

  test("reflection of a python gRPC server", async () => {
    const target = { target: `127.0.0.1:${await start("grpc_server.py")}` };
    const channel = openChannel(target);
    closing.push(() => channel.close());
    const peer = { channel, target, timeoutMs: 5000, clock: systemClock() };
    expect(await reflectServices(peer)).toEqual([
      "grpc.health.v1.Health",
      "grpc.reflection.v1alpha.ServerReflection",
    ]);
    await expect(probe(`grpc://${target.target}`)).rejects.toThrow("it serves grpc.health.v1.Health");
  });

  test("reflection of a python gRPC server with mTLS, and its refusals in words", async () => {
    const address = `127.0.0.1:${await start("grpc_server.py", [pem("trusted")])}`;
    const ask = async (tls: ReturnType<typeof clientFiles>): Promise<boolean | undefined> => {
      const target = { target: address, tls };
      const channel = openChannel(target, { "grpc.use_local_subchannel_pool": 1 });
      closing.push(() => channel.close());
      const peer = { channel, target, timeoutMs: 5000, clock: systemClock() };
      try {
        return (await reflectServices(peer))?.includes("grpc.health.v1.Health");
      } catch (error) {
        throw explainGrpcError(error, "grpc.reflection.v1alpha.ServerReflection", address);
      }
    };
    expect(await ask(clientFiles("trusted", "trusted"))).toBe(true);
    await expect(ask(clientFiles("stranger", "trusted"))).rejects.toThrow(
      "not signed by an authority trusted here",
    );
    await expect(ask(clientFiles("trusted"))).rejects.toThrow(/client certificate|closes the connection/);
    await expect(ask(clientFiles("trusted", "stranger"))).rejects.toThrow(
      /client certificate|closes the connection/,
    );
  });

  test("an OpenTelemetry SDK that pushes over mTLS with a token, and one with a stranger's files", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-python-"));
    closing.push(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, "token"), "secret");
    const [kind] = receiverKinds as [ReceiverKind];
    const tls = {
      certFile: pem("trusted-server.pem"),
      keyFile: pem("trusted-server.key"),
      clientCaFile: pem("trusted-ca.pem"),
    };
    const running = runReceiver(kind, { tls, bearerFile: join(folder, "token") });
    closing.push(() => running.source.close());
    const push = async (files: string, token: string): Promise<{ stderr: string }> =>
      promisify(execFile)(python, [
        script("otlp_push.py"),
        await running.address(),
        "delta",
        pem(files),
        token,
      ]);
    await push("trusted", "secret");
    expect(running.samples.at(-1)?.readings).toMatchObject([
      { tokens: { input_uncached: 180, input_cached: 120, output: 90 }, requests: { ok: 3 } },
    ]);
    const { length } = running.samples;
    expect((await push("trusted", "wrong")).stderr).toContain("UNAUTHENTICATED");
    expect((await push("stranger", "secret")).stderr).toMatch(/UNAVAILABLE|DEADLINE/);
    expect(running.samples).toHaveLength(length);
  });

  test.each(["delta", "cumulative"])(
    "an OpenTelemetry SDK that pushes %s metrics over gRPC",
    async (temporality) => {
      const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };
      const entry = otlp.config.parse({ endpoint: "127.0.0.1:1", tenantAttribute: "team" });
      const source = openOtlp(
        { ...(entry as Parameters<typeof openOtlp>[0]), endpoint: "127.0.0.1:0" },
        context,
      );
      closing.push(() => source.close());
      const samples: TokenSample[] = [];
      void source.run(async (reading) => {
        if (!("reason" in reading)) samples.push(reading);
      });
      const target = `127.0.0.1:${await source.listening}`;
      await promisify(execFile)(python, [script("otlp_push.py"), target, temporality]);
      expect(samples.at(-1)?.readings).toMatchObject([
        {
          model: "m",
          tenant: "a",
          tokens: { input_uncached: 180, input_cached: 120, output: 90 },
          requests: { ok: 3 },
          latencies: { "request_duration ok": { count: 3, sum: 4.5 } },
        },
      ]);
    },
  );
});
