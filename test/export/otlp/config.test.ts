// Endpoints and the section export.otlp: what is accepted, what it means, what is refused with which hint.
import { describe, expect, test } from "vitest";
import { destinations, otlpConfig, parseEndpoint } from "../../../agent/export/otlp/config.ts";

describe("parseEndpoint()", () => {
  test.each([
    ["http://localhost:4317", "localhost:4317", false],
    ["https://otel.example:4317", "otel.example:4317", true],
    ["https://otel.example", "otel.example:443", true],
    ["http://[::1]:4317/", "[::1]:4317", false],
    ["otel.example:4317", "otel.example:4317", true],
    ["unix:/run/otel.sock", "unix:/run/otel.sock", false],
  ])("reads %s", (text, target, tls) => {
    expect(parseEndpoint(text)).toEqual({ target, tls });
  });

  test.each(["http://localhost:4318", "https://otel.example/v1/metrics", "http://localhost:4317/v1/metrics"])(
    "refuses the OTLP/HTTP address %s and names the gRPC one",
    (text) => {
      expect(parseEndpoint(text)).toMatchObject({ hint: expect.stringContaining(":4317") });
    },
  );

  test.each(["ftp://x:1", "http://", "localhost:99999", "http://user:secret@host:4317", "a b"])(
    "refuses %s",
    (text) => {
      const parsed = parseEndpoint(text);
      expect(parsed).toHaveProperty("problem");
      expect(JSON.stringify(parsed)).not.toContain("secret");
    },
  );
});

describe("otlpConfig", () => {
  test("accepts nothing at all: no destination, defaults for the spool", () => {
    const config = otlpConfig.parse({});
    expect(destinations(config)).toEqual([]);
    expect(config).toMatchObject({
      compression: "gzip",
      timeoutMs: 10_000,
      backlog: "strict",
      spoolBytesMax: 1e9,
    });
  });

  test("gives every destination its own name, target and position", () => {
    const config = otlpConfig.parse({
      endpoint: "http://a:4317",
      headers: { "x-a": "1" },
      also: [
        {
          name: "second",
          endpoint: "https://b:4317",
          compression: "none",
          tls: { caFile: "/ca" },
          backlog: "parallel",
        },
      ],
    });
    expect(destinations(config)).toEqual([
      {
        name: "main",
        target: { target: "a:4317", headers: { "x-a": "1" } },
        gzip: true,
        timeoutMs: 10_000,
        backlog: "strict",
      },
      {
        name: "second",
        target: { target: "b:4317", headers: {}, tls: { caFile: "/ca" } },
        gzip: false,
        timeoutMs: 10_000,
        backlog: "parallel",
      },
    ]);
  });

  test.each([
    [{ endpoint: "http://a:4318" }, "endpoint"],
    [{ tls: { certFile: "/c" } }, "tls.keyFile"],
    [{ also: [{ name: "main", endpoint: "http://a:4317" }] }, "also"],
    [{ compresion: "gzip" }, ""],
    [{ timeoutMs: 1 }, "timeoutMs"],
  ])("refuses %j", (input, path) => {
    const result = otlpConfig.safeParse(input);
    expect(result.success).toBe(false);
    expect(result.error?.issues.map((issue) => issue.path.join("."))).toContain(path);
  });
});
