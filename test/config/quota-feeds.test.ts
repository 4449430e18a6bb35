// What a policy can never count: each warning once, by the configuration that gives rise to it, and none where all is well.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import { configuredFamilies, policyWarnings } from "../../agent/config/quota-feeds.ts";
import { catalogueOf } from "../fakes/catalogue.ts";
import { policyWith } from "../policy/fixtures.ts";

const folder = mkdtempSync(join(tmpdir(), "quota-feeds-"));
afterAll(() => rmSync(folder, { recursive: true }));

function configWith(servers: object, more: object = {}) {
  const file = join(folder, "config.yaml");
  writeFileSync(file, JSON.stringify({ servers, ...more }));
  return loadConfig({ env: {}, file }).config;
}

const kong = { kong: [{ endpoint: "localhost:8100" }] };
const litellm = { litellm: [{ endpoint: "localhost:4000" }] };
const envoy = { "envoy-ai-gateway": [{ endpoint: "localhost:1064" }] };
const undiscovered = { discovery: { enabled: false, kubernetes: "off" } };
const prices = catalogueOf({
  version: "1",
  currency: "EUR",
  tokens: [{ model: "*", kind: "output", pricePerMillionTokens: "2" }],
});
const weights = (given: object) => ({ count: "weighted", weights: given });

describe("policyWarnings()", () => {
  test.each([
    [
      "a tenant no gateway names",
      { match: { tenant: "acme" } },
      envoy,
      "matches by tenant and servers.envoy-ai-gateway[0] names none: it counts nothing; set tenantLabel",
    ],
    ["each tenant, and none is named", { match: { tenant: "*" } }, envoy, "all of it counts as unknown"],
    [
      "an endpoint no gateway names",
      { match: { endpoint: "chat" } },
      litellm,
      "matches by endpoint and servers.litellm[0] names none",
    ],
    [
      "input that is never split",
      weights({ input_uncached: 1, output: 4 }),
      kong,
      "gives input_unsplit no weight and servers.kong[0] never splits its input",
    ],
    [
      "a currency no price is in",
      { count: "cost", currency: "USD" },
      litellm,
      "counts USD and the price file has EUR: it counts nothing",
    ],
    ["no gateway at all", {}, {}, "counts from gateways and none is configured"],
    [
      "engines that discovery may find",
      { source: "engine" },
      {},
      "none is configured: it counts those that discovery finds",
    ],
  ])("warns of %s", (_what, quota, servers, said) => {
    const warnings = policyWarnings(policyWith([quota]), configWith(servers), prices);
    expect(warnings).toEqual([expect.stringMatching(/^quota q0 /)]);
    expect(warnings[0]).toContain(said);
  });

  test("warns of engines that publish requests alone, where none other is found", () => {
    const config = configWith({ kserve: [{ endpoint: "localhost:8080" }] }, undiscovered);
    const quotas = policyWith([{ source: "engine" }, { source: "engine", count: "requests" }]);
    expect(policyWarnings(quotas, config, undefined)).toEqual([
      "quota q0 counts tokens and servers.kserve[0] publishes requests alone: it counts nothing",
    ]);
  });

  test.each([
    ["a tenant in a label by default", { match: { tenant: "acme" } }, litellm],
    [
      "a tenant label that is configured",
      { match: { tenant: "acme" } },
      { "envoy-ai-gateway": [{ endpoint: "localhost:1064", tenantLabel: "team" }] },
    ],
    [
      "a header of an access log",
      { match: { tenant: "*" } },
      { "envoy-access-log": [{ endpoint: "127.0.0.1:9467", tenantHeader: "x-team" }] },
    ],
    ["one gateway of two that names it", { match: { tenant: "acme" } }, { ...envoy, ...litellm }],
    ["weights for what comes", weights({ input_unsplit: 1, output: 4 }), kong],
    [
      "reports, whose family is a gateway's by default",
      { match: { tenant: "*" } },
      { "usage-reports": [{ endpoint: "127.0.0.1:9466" }] },
    ],
    [
      "an endpoint that is configured",
      { match: { endpoint: "chat" } },
      { litellm: [{ endpoint: "localhost:4000", productEndpoint: "chat" }] },
    ],
    ["a currency that is that of the prices", { count: "cost", currency: "EUR" }, litellm],
  ])("says nothing of %s", (_what, quota, servers) => {
    expect(policyWarnings(policyWith([quota]), configWith(servers), prices)).toEqual([]);
  });
});

describe("configuredFamilies()", () => {
  test("takes the family an entry has, also where its type has none", () => {
    const families = (servers: object) => [...configuredFamilies(configWith(servers))];
    expect(families({ otlp: [{ endpoint: "127.0.0.1:4317" }] })).toEqual(["gateway"]);
    expect(families({ otlp: [{ endpoint: "127.0.0.1:4317", family: "engine" }] })).toEqual(["engine"]);
    expect(families({ vllm: [{ endpoint: "localhost:8000" }] })).toEqual(["engine"]);
  });
});
