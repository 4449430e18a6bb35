// The shipped Collector files against what agents do: none acknowledges what its backend does not have (but for the queue on a node's
// own disk), none takes an agent's keepalive for abuse, and none gives up before its caller.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";

interface Exporter {
  readonly retry_on_failure?: { readonly enabled?: boolean; readonly max_elapsed_time?: string };
  readonly sending_queue?: {
    readonly enabled?: boolean;
    readonly wait_for_result?: boolean;
    readonly storage?: string;
  };
}
interface Collector {
  readonly receivers?: {
    readonly otlp: {
      readonly protocols: {
        readonly grpc: {
          readonly keepalive?: { readonly enforcement_policy?: { readonly min_time?: string } };
        };
      };
    };
  };
  readonly exporters?: Readonly<Record<string, Exporter>>;
}

const folder = new URL("../../deploy/collector/", import.meta.url);
const read = (name: string): Collector => parse(readFileSync(new URL(name, folder), "utf8")) as Collector;
const files = readdirSync(folder).filter((name) => read(name).exporters !== undefined);
/** As agent/platform/grpc.ts asks. */
const AGENT_PING_SECONDS =
  Number(
    /"grpc\.keepalive_time_ms": ([\d_]+)/
      .exec(readFileSync(new URL("../../agent/platform/grpc.ts", import.meta.url), "utf8"))?.[1]
      ?.replaceAll("_", ""),
  ) / 1000;

test("the four ways of the data are here", () => {
  expect(files).toEqual(["direct.yaml", "gateway-clickhouse.yaml", "gateway-prometheus.yaml", "node.yaml"]);
});

describe.each(files)("%s", (name) => {
  const { exporters = {}, receivers } = read(name);
  test("lets agents ask whether their connection lives as often as they do", () => {
    const seconds = receivers?.otlp.protocols.grpc.keepalive?.enforcement_policy?.min_time ?? "5m";
    expect(seconds).toMatch(/^\d+s$/);
    expect(Number.parseInt(seconds, 10)).toBeLessThan(AGENT_PING_SECONDS);
  });
  test("keeps what it acknowledged on disk, or acknowledges when its backend has", () => {
    for (const { retry_on_failure: retry = {}, sending_queue: queue = {} } of Object.values(exporters)) {
      const waits = queue.enabled === false || queue.wait_for_result === true;
      expect(waits || queue.storage !== undefined).toBe(true);
      // Neither a queue nor a waiting caller is given up by a clock of the Collector's own.
      expect(retry.enabled === false || retry.max_elapsed_time === "0s").toBe(true);
    }
  });
});
