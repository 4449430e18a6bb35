// What children see of the agent's environment.
import { expect, test } from "vitest";
import { systemClock } from "../../agent/platform/clock.ts";
import { childEnvironment, run } from "../../agent/platform/process.ts";

test("childEnvironment() passes what programs need and nothing that may hold a secret", () => {
  const given = {
    PATH: "/bin",
    HOME: "/root",
    LD_LIBRARY_PATH: "/usr/local/nvidia/lib64",
    CUDA_VISIBLE_DEVICES: "0",
    LC_ALL: "de_DE.UTF-8",
    TOKENWATT_EXPORT__OTLP__HEADERS: '{"authorization":"secret"}',
    OTEL_EXPORTER_OTLP_HEADERS: "authorization=secret",
    AWS_SECRET_ACCESS_KEY: "secret",
    http_proxy: "http://user:secret@proxy:3128",
    NODE_OPTIONS: "--require /secret.js",
  };
  expect(childEnvironment(given)).toEqual({
    PATH: "/bin",
    HOME: "/root",
    LD_LIBRARY_PATH: "/usr/local/nvidia/lib64",
    CUDA_VISIBLE_DEVICES: "0",
    LC_ALL: "C",
  });
});

test("run() gives a program the allowed variables alone", async () => {
  process.env["TOKENWATT_TEST_SECRET"] = "s3cr3t";
  try {
    const limits = { timeoutMs: 10_000, bytesMax: 100_000 };
    const { code, stdout } = await run(systemClock(), { program: "env", arguments: [] }, limits);
    expect(code).toBe(0);
    expect(stdout).toContain("PATH=");
    expect(stdout).not.toContain("s3cr3t");
  } finally {
    delete process.env["TOKENWATT_TEST_SECRET"];
  }
});
