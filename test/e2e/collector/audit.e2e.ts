// The audit record of a real agent in the real OpenTelemetry Collector: what arrives is every entry, and proves the chain by
// itself. A Collector that takes no logs costs nothing but patience.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { AuditReader } from "../../../agent/store/ledger/audit.ts";
import { chainHash, chainStart } from "../../../agent/store/ledger/digests.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { freePort, owned, scratchFolder, until } from "../peers.ts";
import { findTool } from "./tools.ts";

const otelcol = findTool("otelcol");
const main = fileURLToPath(new URL("../../../agent/main.ts", import.meta.url));

/** The Collector with these pipelines; what it shows of what it gets. */
async function startCollector(folder: string, port: number, pipelines: readonly string[]) {
  const path = join(folder, `collector-${pipelines.join("-")}.yaml`);
  const lines = pipelines.map((signal) => `    ${signal}: {receivers: [otlp], exporters: [debug]}\n`);
  writeFileSync(
    path,
    `receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:${port}"}}}}
exporters: {debug: {verbosity: detailed}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
${lines.join("")}`,
  );
  const child = spawn(otelcol as string, ["--config", path], { stdio: ["ignore", "pipe", "pipe"] });
  const stop = owned(child);
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (text += part));
  await until(() => text.includes("Everything is ready"));
  return { stop, text: () => text };
}

interface Shown {
  readonly at: string;
  readonly kind: string;
  readonly body: string;
  readonly hash: string;
  readonly sequence: number;
}

/** The records as the debug exporter prints them. */
function recordsIn(text: string): Shown[] {
  const pattern =
    /Timestamp: (\S+ \S+) \+0000 UTC\n.*\n.*\nEventName: tokenwatt\.audit\.(\S+)\nBody: Str\((.*)\)\nAttributes:\n.*audit\.hash: Str\((\w+)\)\n.*audit\.sequence: Int\((\d+)\)/g;
  return [...text.matchAll(pattern)].map(([, at = "", kind = "", body = "", hash = "", sequence = ""]) => {
    const [day, clock = ""] = at.split(" ");
    const [time, fraction = ""] = clock.split(".");
    const nanos = BigInt(Date.parse(`${day}T${time}Z`)) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
    return { at: String(nanos), kind, body, hash, sequence: Number(sequence) };
  });
}

describe.skipIf(otelcol === undefined)("the audit record in a Collector", () => {
  test("arrives whole, after a Collector that took no logs, and proves the chain", async () => {
    const folder = scratchFolder("audit-logs");
    const [port, http] = [await freePort(), await freePort()];
    writeFileSync(
      join(folder, "config.yaml"),
      `stateDir: ${folder}/state
gpu: { backend: nvidia-smi }
discovery: { enabled: false, kubernetes: "off" }
servers: { vllm: [{ endpoint: "127.0.0.1:9" }] }
export: { prometheus: { listen: "127.0.0.1:${http}" }, otlp: { endpoint: "http://127.0.0.1:${port}", audit: true } }
rates: { exportMs: 1000 }
`,
    );
    const begin = (): (() => Promise<void>) =>
      owned(
        spawn(process.execPath, [main, "run", "--config", join(folder, "config.yaml")], { stdio: "ignore" }),
      );
    const metric = async (name: string): Promise<number> => {
      const page = await (await fetch(`http://127.0.0.1:${http}/metrics`)).text();
      return Number(new RegExp(`^${name}\\{[^}]*\\} (\\S+)`, "m").exec(page)?.[1] ?? Number.NaN);
    };
    const deaf = await startCollector(folder, port, ["metrics"]);
    let stop = begin();
    await until(async () => (await metric("tokenwatt_agent_audit_unsent")) > 0);
    await stop();
    await deaf.stop();
    const collector = await startCollector(folder, port, ["metrics", "logs"]);
    stop = begin();
    await until(async () => (await metric("tokenwatt_agent_audit_unsent")) === 0);
    await stop();
    const reader = new AuditReader(ledgerPath(join(folder, "state")));
    const kept = [...reader.read()].map(({ sequence }) => sequence);
    reader.close();
    const arrived = (): Shown[] => [
      ...new Map(recordsIn(collector.text()).map((one) => [one.sequence, one])).values(),
    ];
    await until(() => arrived().length === kept.length, 10);
    const records = arrived();
    expect(records.filter(({ kind }) => kind === "start")).toHaveLength(2);
    let previous = chainStart;
    for (const [index, { at, body, hash, kind, sequence }] of records.entries()) {
      expect(sequence).toBe(index + 1);
      previous = chainHash(previous, sequence, { at, kind: kind as "start", body: {} }, body);
      expect(hash).toBe(previous);
    }
  });
});
