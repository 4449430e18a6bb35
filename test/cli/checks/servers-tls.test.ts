// What doctor says of TLS files that cannot be used, of receivers and of tailed servers.
import { describe, expect, test } from "vitest";
import { systemClock } from "../../../agent/platform/clock.ts";
import { serveTokenCounters } from "../../../agent/servers/token-counters/server.ts";
import { clientFiles, pem, serverCredentials } from "../../fakes/tls-files.ts";
import { runCommand } from "../capture-io.ts";

async function doctor(
  type: string,
  entry: object,
): Promise<{ verdict: string; seen: string; remedy?: string }> {
  const flags = ["--only", "server", "--json", "--set", `servers.${type}=${JSON.stringify([entry])}`];
  const { stdout } = await runCommand(["doctor", ...flags]);
  return JSON.parse(stdout).findings[0];
}

describe("server.reachable", () => {
  test.each([
    ["a missing file", "/nonexistent.pem", "trusted-server.key", "/nonexistent.pem", "correct the path"],
    [
      "a pair that does not fit",
      "trusted-server.pem",
      "stranger-server.key",
      "do not belong together",
      "a pair",
    ],
    ["a certificate for a key", "trusted-server.pem", "trusted-server.pem", "is no PEM file", "-----BEGIN"],
  ])("fails for a receiver with %s", async (_, certificate, key, seen, remedy) => {
    const certFile = certificate.startsWith("/") ? certificate : pem(certificate);
    const finding = await doctor("otlp", {
      endpoint: "127.0.0.1:44317",
      tls: { certFile, keyFile: pem(key) },
    });
    expect(finding).toMatchObject({ verdict: "fail", remedy: expect.stringContaining(remedy) });
    expect(finding.seen).toContain("otlp cannot listen with TLS: ");
    expect(finding.seen).toContain(seen);
  });

  test("is ok for a receiver whose files can be used", async () => {
    const tls = { certFile: pem("trusted-server.pem"), keyFile: pem("trusted-server.key") };
    expect(await doctor("otlp", { endpoint: "127.0.0.1:44317", tls })).toMatchObject({ verdict: "ok" });
  });

  test("says what to do about a tailed server whose certificate is not trusted", async () => {
    const clock = systemClock();
    const read = () => [{ epochId: "e", counters: [] }];
    const server = await serveTokenCounters("127.0.0.1:0", { clock, read }, serverCredentials("trusted"));
    const ask = (tls: object) => doctor("token-counters", { endpoint: server.address, tls });
    expect(await ask(clientFiles("stranger"))).toMatchObject({
      verdict: "fail",
      seen: expect.stringContaining("not signed by an authority trusted here"),
      remedy: expect.stringContaining("tls.caFile"),
    });
    expect(await ask(clientFiles("trusted"))).toMatchObject({ verdict: "ok" });
    await server.close();
  });
});
