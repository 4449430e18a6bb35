// loadConfig(): layers, every problem at once, origins. Messages are golden: read the diff when they change.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { ConfigInput, LoadedConfig } from "../../agent/config/load.ts";
import {
  ConfigError,
  changedValues,
  configJsonSchema,
  configuredBackends,
  configuredServers,
  loadConfig,
} from "../../agent/config/load.ts";
import { sources } from "./sources.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function write(text: string): string {
  const file = join(folder, `config-${files++}.yaml`);
  writeFileSync(file, text);
  return file;
}

function load(yaml: string | undefined, rest: Partial<ConfigInput> = {}): LoadedConfig {
  return loadConfig({ env: {}, sources, ...(yaml === undefined ? {} : { file: write(yaml) }), ...rest });
}

function problems(yaml: string | undefined, rest: Partial<ConfigInput> = {}): string {
  try {
    load(yaml, rest);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message.replaceAll(/\S*config-\d+\.yaml/g, "config.yaml");
  }
  throw new Error("the configuration was accepted");
}

describe("loadConfig()", () => {
  test("accepts no file, an empty file and a file of comments, all with the default rates", () => {
    for (const { config } of [load(undefined), load(""), load("# nothing\n")]) {
      expect(config.rates).toEqual({
        gpuMs: 1000,
        scrapeMs: 5000,
        scrapeSingleMs: 1000,
        tickMs: 1000,
        exportMs: 10_000,
        inventoryMs: 600_000,
      });
      expect(config.export.prometheus.listen).toBe("127.0.0.1:9464");
      expect(config.gpu).toEqual({
        backend: "auto",
        nvml: {},
        "nvidia-smi": { path: "nvidia-smi", loopMs: 1000 },
      });
      expect(config.servers).toEqual({ vllm: [], "token-counters": [] });
    }
  });

  test("reports all problems together, each with path, place, value seen and hint", async () => {
    const text = problems(`
gpu:
  backend: nvlm
  nvidia-smi: { loopMs: fast }
servers:
  vllm:
    - endpoint: localhost
    - id: b
      endpont: localhost:8000
    - endpoint: localhost:8001
      tls: { ca: /etc/ca.pem }
  vlm: []
rates: { gpu_ms: 5, tickMs: 5 }
export:
  prometheus: { listen: localhost }
stallAfterSeconds: 5
logLevel: loud
`);
    await expect(`${text}\n`).toMatchFileSnapshot("../fixtures/config/problems.txt");
  });

  test("refuses a second server with one id, over all types, and defaults of one endpoint", async () => {
    const text = problems(`
servers:
  vllm:
    - { id: chat, endpoint: "a:1" }
    - endpoint: b:1
    - endpoint: b:1
  token-counters:
    - { id: chat, endpoint: "c:1" }
`);
    await expect(`${text}\n`).toMatchFileSnapshot("../fixtures/config/two-servers-with-one-id.txt");
  });

  test("names the line and column of bad YAML and never quotes the file", () => {
    const text = problems("export:\n  otlp:\n    headers: { authorization: Bearer abc }\n   bad: [1\n");
    expect(text).toContain("config.yaml:4:");
    expect(text).not.toContain("abc");
  });

  test("names the first token that cannot stand where it does, without quoting it, and not what follows", () => {
    expect(problems("oops\n# and\nexport:\n  otlp: { headers: { authorization: Bearer s3cret } }\n")).toBe(
      "Cannot read YAML: this cannot stand here\nat: config.yaml:3:1\n" +
        "hint: look at the end of the line above too: a bracket or a quote may be missing, or one too many",
    );
  });

  test("says of a key without a value that it is empty", () => {
    expect(problems("rates:\n")).toBe(
      "Cannot read rates as a section of keys: got nothing\nat: config.yaml:1:1\n" +
        "hint: nothing is written behind the key: write a value, or leave the key out",
    );
  });

  test("refuses a key that stands twice", () => {
    expect(problems("logLevel: info\nlogLevel: debug\n")).toBe(
      "Cannot read YAML: this key stands in its section already\nat: config.yaml:2:1\nhint: each key may stand once in its section; merge the two",
    );
  });

  test("refuses options of a backend that was not chosen", () => {
    const text = problems("gpu:\n  backend: nvidia-smi\n  nvml: { libraryPath: /lib/x.so }\n");
    expect(text).toContain('Cannot honour gpu.nvml: gpu.backend is "nvidia-smi"');
  });

  test("lists the types there are when a server type is unknown", () => {
    expect(problems("servers: { ollama: [] }")).toContain("known server types: vllm, token-counters");
  });

  test("says what a list of servers should look like", () => {
    expect(problems("servers: [ { type: vllm } ]")).toContain(
      "Cannot read servers as a section of keys: got a list of 1",
    );
  });

  test("masks secrets in messages", () => {
    const text = problems('servers: { vllm: [ { endpoint: "a:1", headers: { authorization: [s3cret] } } ] }');
    expect(text).toContain("headers.authorization");
    expect(text).not.toContain("s3cret");
  });

  test("refuses a word where a section stands, whatever is set over it", () => {
    const set = { env: { TOKENWATT_RATES_GPU_MS: "500" }, settings: ["export.otlp.endpoint="] };
    expect(problems("rates: fast\nexport: [1]\n", set)).toContain("Cannot read rates as a section of keys");
    expect(problems("rates: fast\nexport: [1]\n", set)).toContain("Cannot read export as a section of keys");
    expect(problems("- 1\n", set)).toContain("Cannot read the configuration as a section of keys");
    expect(load("rates:\n", set).config.rates.gpuMs).toBe(500);
  });

  test("reads a file of 30,000 keys in one pass, and names 50 of its problems", () => {
    const keys = Array.from({ length: 30_000 }, (_, index) => `key${index}: 1`).join("\n");
    expect(problems(keys)).toContain("There are 29950 more problems like these");
  });

  test("says that a named file is missing", () => {
    const missing = join(folder, "none.yaml");
    expect(() => loadConfig({ env: {}, sources, file: missing })).toThrow(
      /none\.yaml: there is no such file/,
    );
    expect(() => loadConfig({ env: { TOKENWATT_CONFIG: missing }, sources })).toThrow(
      /there is no such file/,
    );
  });

  test("reads a prices file relative to the configuration", () => {
    expect(load("prices: prices.yaml").config.prices).toBe(join(folder, "prices.yaml"));
  });

  test("takes the state directory from systemd, else from the user", () => {
    expect(load(undefined, { env: { STATE_DIRECTORY: "/state:/more" } }).config.stateDir).toBe("/state");
    expect(load("stateDir: /mine", { env: { STATE_DIRECTORY: "/state" } }).config.stateDir).toBe("/mine");
  });
});

describe("environment and --set", () => {
  test("override the file, later layers first", () => {
    const yaml = "rates: { gpuMs: 100, tickMs: 200, exportMs: 3000 }";
    const env = {
      TOKENWATT_RATES_TICK_MS: "300",
      OTEL_METRIC_EXPORT_INTERVAL: "4000",
      TOKENWATT_RATES_GPU_MS: "400",
    };
    const { config, origin } = load(yaml, { env, settings: ["rates.gpuMs=500"] });
    expect(config.rates).toMatchObject({ gpuMs: 500, tickMs: 300, exportMs: 4000 });
    expect(origin(["rates", "gpuMs"])).toBe("--set");
    expect(origin(["rates", "tickMs"])).toBe("TOKENWATT_RATES_TICK_MS");
    expect(origin(["rates", "exportMs"])).toBe("OTEL_METRIC_EXPORT_INTERVAL");
    expect(origin(["rates", "inventoryMs"])).toBe("default");
  });

  test("reach into lists, sections and keys with dashes", () => {
    const env = {
      TOKENWATT_SERVERS_TOKEN_COUNTERS_0_ENDPOINT: "localhost:9465",
      TOKENWATT_SERVERS_TOKEN_COUNTERS_0_POLL_MS: "250",
      TOKENWATT_SERVERS_VLLM: "[{endpoint: 'a:1', gpus: [GPU-1]}]",
      TOKENWATT_SERVERS_VLLM_0_GPUS: "GPU-1, GPU-2",
      TOKENWATT_GPU_NVIDIA_SMI_LOOP_MS: "500",
      TOKENWATT_ALIASES: "{asked: served}",
    };
    const { config } = load(undefined, { env });
    expect(config.servers).toEqual({
      vllm: [{ endpoint: "a:1", gpus: ["GPU-1", "GPU-2"] }],
      "token-counters": [{ endpoint: "localhost:9465", pollMs: 250 }],
    });
    expect(config.gpu["nvidia-smi"]).toMatchObject({ loopMs: 500 });
    expect(config.aliases).toEqual({ asked: "served" });
  });

  test("keep text as text where the key wants text", () => {
    const { config } = load(undefined, {
      env: { TOKENWATT_STATE_DIR: "0123" },
      settings: ["gpu.nvml.libraryPath=true"],
    });
    expect(config.stateDir).toBe("0123");
    expect(config.gpu["nvml"]).toEqual({ libraryPath: "true" });
  });

  test("refuse unknown names with a did-you-mean, but not what Kubernetes adds for a Service", () => {
    const env = {
      TOKENWATT_LOG_LEVL: "info",
      TOKENWATT_PORT_9464_TCP_ADDR: "10.0.0.1",
      TOKENWATT_SERVICE_HOST: "10.0.0.1",
    };
    expect(problems(undefined, { env })).toBe(
      "Cannot use environment variable TOKENWATT_LOG_LEVL: no key of the configuration has this name\n" +
        "at: TOKENWATT_LOG_LEVL\nhint: did you mean TOKENWATT_LOG_LEVEL?",
    );
  });

  test("honour OTEL_* and prefer the _METRICS_ form", () => {
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://general:4317",
      OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "http://metrics:4317",
      OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20abc,x-scope=team%2Ca",
      OTEL_EXPORTER_OTLP_TIMEOUT: "2000",
      OTEL_EXPORTER_OTLP_COMPRESSION: "none",
      OTEL_EXPORTER_OTLP_CERTIFICATE: "/etc/ca.pem",
      OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=prod,team=ml",
      OTEL_SERVICE_NAME: "metering",
    };
    const { config } = load("resource: { team: other, site: a }", { env });
    expect(config.export.otlp).toMatchObject({
      endpoint: "http://metrics:4317",
      headers: { authorization: "Bearer abc", "x-scope": "team,a" },
      timeoutMs: 2000,
      compression: "none",
      tls: { caFile: "/etc/ca.pem" },
    });
    expect(config.resource).toEqual({
      "deployment.environment.name": "prod",
      "service.name": "metering",
      team: "ml",
      site: "a",
    });
  });

  test("refuse delta temporality and OTLP over HTTP with a way out", () => {
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4317",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
      OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: "delta",
    };
    const text = problems(undefined, { env });
    expect(text).toContain('wanted "grpc", got "http/protobuf"');
    expect(text).toContain("cumulativetodelta");
  });

  test("switch sending off as OpenTelemetry's variables do", () => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4317" };
    expect(
      load(undefined, { env: { ...env, OTEL_METRICS_EXPORTER: "none" } }).config.export.otlp.endpoint,
    ).toBe("");
    expect(load(undefined, { env: { ...env, OTEL_SDK_DISABLED: "true" } }).config.export.otlp.endpoint).toBe(
      "",
    );
  });

  test("never quote headers they cannot read", () => {
    expect(
      problems(undefined, { env: { OTEL_EXPORTER_OTLP_HEADERS: "authorization s3cret" } }),
    ).not.toContain("s3cret");
  });

  test("refuse --set without a key or value", () => {
    expect(problems(undefined, { settings: ["rates"] })).toContain(
      'Cannot read --set as key=value: got "rates"',
    );
    expect(problems(undefined, { settings: ["rates.gpuM=1"] })).toContain('did you mean "gpuMs"?');
  });
});

describe("what a configuration means", () => {
  test("configuredServers() gives every entry with its type and path", () => {
    const { config } = load(
      "servers: { token-counters: [{ endpoint: 'a:1' }], vllm: [{ endpoint: 'b:1' }] }",
    );
    expect(configuredServers(config, sources).map(({ type, path }) => [type.name, path])).toEqual([
      ["vllm", "servers.vllm[0]"],
      ["token-counters", "servers.token-counters[0]"],
    ]);
  });

  test("configuredBackends() tries all for auto and one when it is named", () => {
    const names = (yaml: string): string[] =>
      configuredBackends(load(yaml).config, sources).map(({ backend }) => backend.name);
    expect(names("")).toEqual(["nvml", "nvidia-smi"]);
    expect(names("gpu: { backend: nvidia-smi }")).toEqual(["nvidia-smi"]);
  });

  test("changedValues() shows what a reload changes, secrets masked", () => {
    const before = load("servers: { vllm: [{ endpoint: 'a:1', headers: { x: one } }] }").config;
    const after = load(
      "servers: { vllm: [{ endpoint: 'b:1', headers: { x: two } }] }\nlogLevel: debug",
    ).config;
    expect(changedValues(before, after)).toEqual({
      logLevel: { from: "info", to: "debug" },
      "servers.vllm[0].endpoint": { from: "a:1", to: "b:1" },
      "servers.vllm[0].headers.x": { from: "********", to: "********" },
    });
  });

  test("configJsonSchema() refuses unknown keys everywhere and asks for nothing", () => {
    const schema = configJsonSchema(sources);
    expect(schema.additionalProperties).toBe(false);
    expect(schema).not.toHaveProperty("required");
    expect(Object.keys(schema.properties?.["servers"]?.properties ?? {})).toEqual(["vllm", "token-counters"]);
  });
});
