// The resource: who wins over whom, and nothing unknown is said.
import { describe, expect, test } from "vitest";
import { agentResource } from "../../../agent/export/otlp/resource.ts";

describe("agentResource()", () => {
  test("is the host, then the environment, then the configuration", () => {
    const env = {
      NODE_NAME: "node-b",
      K8S_NODE_NAME: "node-a",
      OTEL_RESOURCE_ATTRIBUTES: "host.name=from-env,team=a%2Cb,broken,=x,bad=%zz",
      OTEL_SERVICE_NAME: "meter",
    };
    const facts = {
      hostName: "from-host",
      hostId: "id-1",
      instanceId: "i-1",
      more: { "cloud.region": "eu" },
    };
    expect(agentResource({ env, facts, configured: { team: "c" }, version: "1.0.0" })).toEqual({
      "service.name": "meter",
      "service.version": "1.0.0",
      "service.instance.id": "i-1",
      "host.name": "from-env",
      "host.id": "id-1",
      "cloud.region": "eu",
      "k8s.node.name": "node-a",
      team: "c",
    });
  });

  test("names the host of a pod after its node: the pod's own name is another one after each restart", () => {
    const resource = (env: Record<string, string>) =>
      agentResource({ env, facts: { hostName: "tokenwatt-x7k2p" }, configured: {} })["host.name"];
    expect(resource({ K8S_NODE_NAME: "node-a" })).toBe("node-a");
    expect(resource({})).toBe("tokenwatt-x7k2p");
  });

  test("says nothing it does not know but always has an instance id", () => {
    const made = agentResource({ env: { K8S_NODE_NAME: " " }, facts: {}, configured: {} });
    expect(Object.keys(made).sort()).toEqual(["service.instance.id", "service.name"]);
    expect(made["service.instance.id"]).toMatch(/^[0-9a-f-]{36}$/);
  });
});
