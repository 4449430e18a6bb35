// deploy/try: the project by Compose's own loader, then its services without containers: each started with its command, environment and
// mounted files as compose.yaml says, fed by the demo. Grafana cannot be had here: its files are held against what they name.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { ended, freePort, inherited, main, ready } from "./deploy-fleet-rig.ts";
import { deployFolder, deployTool, runTool } from "./deploy-tools.ts";

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes: readonly string[];
  readonly ports: readonly string[];
}

const folder = join(deployFolder, "try");
const project = parse(readFileSync(join(folder, "compose.yaml"), "utf8")) as {
  readonly services: Readonly<Record<"collector" | "prometheus" | "grafana", Service>>;
};
const { collector, grafana, prometheus } = project.services;
const read = (name: string): unknown => parse(readFileSync(join(folder, name), "utf8"));
const mounts = ({ volumes }: Service): readonly (readonly [string, string])[] =>
  volumes.map((one) => {
    const [from = "", to = "", mode] = one.split(":");
    expect(mode, one).toBe("ro");
    return [resolve(folder, from), to] as const;
  });
/** Where a path of a container lies on this machine. */
const onHost = (service: Service, path: string): string => {
  const mount = mounts(service).find(([, to]) => path === to || path.startsWith(`${to}/`));
  if (mount === undefined) throw new Error(`nothing is mounted at ${path} of ${service.image}`);
  return join(mount[0], path.slice(mount[1].length));
};

describe("deploy/try", () => {
  const loader = deployTool("compose-go");
  test.skipIf(loader === undefined)("loads by Compose's own loader, which knows every key", () => {
    const { status, text } = runTool(loader ?? "", [join(folder, "compose.yaml")]);
    expect(status, text).toBe(0);
    const wrong = join(mkdtempSync(join(tmpdir(), "try-")), "compose.yaml");
    writeFileSync(wrong, readFileSync(join(folder, "compose.yaml"), "utf8").replace("ports:", "prots:"));
    expect(runTool(loader ?? "", [wrong]).text).toContain("prots");
    rmSync(dirname(wrong), { recursive: true });
  });

  test("mounts files that are there, read-only, and listens on loopback alone", () => {
    for (const service of Object.values(project.services)) {
      for (const [from] of mounts(service)) expect(existsSync(from), from).toBe(true);
      for (const port of service.ports) expect(port).toMatch(/^127\.0\.0\.1:(\d+):\1$/);
      expect(service.image).toMatch(/^[a-z/-]+:v?\d+\.\d+\.\d+$/);
    }
  });

  test("Grafana finds the Prometheus of the project and every dashboard", () => {
    const source = read("grafana-source.yaml") as {
      readonly datasources: readonly {
        readonly type: string;
        readonly url: string;
        readonly isDefault: boolean;
      }[];
    };
    const [only, ...others] = source.datasources;
    expect(others).toEqual([]);
    const port = prometheus.ports[0]?.split(":").at(-1);
    expect(only).toMatchObject({ type: "prometheus", url: `http://prometheus:${port}`, isDefault: true });
    const { providers } = read("grafana-dashboards.yaml") as {
      readonly providers: readonly { readonly type: string; readonly options: { readonly path: string } }[];
    };
    expect(providers).toHaveLength(1);
    const shipped = onHost(grafana, providers[0]?.options.path ?? "");
    const names = readdirSync(shipped).filter((name) => name.endsWith(".json"));
    expect(names.length).toBeGreaterThanOrEqual(4);
    const uids = new Set<string>();
    for (const name of names) {
      const board = JSON.parse(readFileSync(join(shipped, name), "utf8")) as {
        readonly uid: string;
        readonly templating: { readonly list: readonly { readonly type: string; readonly query: unknown }[] };
      };
      uids.add(board.uid);
      // The source is asked for by its type, so the default one is taken.
      expect(board.templating.list.filter(({ type }) => type === "datasource")).toMatchObject([
        { query: "prometheus" },
      ]);
    }
    expect(uids.size).toBe(names.length);
    const home = grafana.environment?.["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] ?? "";
    expect(statSync(onHost(grafana, home)).isFile()).toBe(true);
  });
});

const tools = { prometheus: deployTool("prometheus"), otelcol: deployTool("otelcol-deploy") };

describe.skipIf(tools.prometheus === undefined || tools.otelcol === undefined)(
  "deploy/try, its services started",
  () => {
    const root = mkdtempSync(join(tmpdir(), "try-"));
    const children: ChildProcess[] = [];
    let [web, otlp] = [0, 0];

    /** The container's file system, as far as the project says. */
    const laidOut = (service: Service, name: string): ((path: string) => string) => {
      for (const [from, to] of mounts(service)) {
        mkdirSync(dirname(join(root, name, to)), { recursive: true });
        cpSync(from, join(root, name, to), { recursive: true });
      }
      return (text) => text.replace(/(?<==)\/(?=\w)/, `${join(root, name)}/`);
    };
    const start = async (
      path: string,
      args: readonly string[],
      env: Record<string, string>,
      line: RegExp,
    ) => {
      const child = spawn(path, args, { env: { ...inherited, ...env }, stdio: ["ignore", "ignore", "pipe"] });
      children.push(child);
      await ready(child, line);
    };

    beforeAll(async () => {
      [web, otlp] = (await Promise.all([freePort(), freePort()])) as [number, number];
      const inPrometheus = laidOut(prometheus, "prometheus");
      await start(
        tools.prometheus ?? "",
        [...(prometheus.command ?? []).map(inPrometheus), `--web.listen-address=127.0.0.1:${web}`],
        {},
        /Server is ready to receive web requests/,
      );
      const inCollector = laidOut(collector, "collector");
      // Names and ports of the project's network are this machine's.
      const env = Object.fromEntries(
        Object.entries(collector.environment ?? {}).map(([key, value]) => [
          key,
          value
            .replace("http://prometheus:9090", `http://127.0.0.1:${web}`)
            .replace("0.0.0.0:4317", `127.0.0.1:${otlp}`),
        ]),
      );
      await start(
        tools.otelcol ?? "",
        (collector.command ?? []).map(inCollector),
        env,
        /Everything is ready/,
      );
    });
    afterAll(async () => {
      for (const child of children.toReversed()) await ended(child);
      rmSync(root, { recursive: true, force: true });
    });

    test("Prometheus took the configuration and loaded the rules it names", async () => {
      const rules = (await (await fetch(`http://127.0.0.1:${web}/api/v1/rules`)).json()) as {
        readonly data: {
          readonly groups: readonly { readonly file: string; readonly rules: readonly unknown[] }[];
        };
      };
      const files = new Set(rules.data.groups.map(({ file }) => file.split("/").at(-1)));
      expect(files).toEqual(new Set(["recording-rules.yaml", "alerts.yaml"]));
      expect(rules.data.groups.every((group) => group.rules.length > 0)).toBe(true);
    });

    test("the demo's totals are in Prometheus", async () => {
      const demo = spawn(process.execPath, [main, "demo", "--json", "--duration", "25s"], {
        env: {
          ...inherited,
          OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${otlp}`,
          TOKENWATT_EXPORT_PROMETHEUS_LISTEN: `127.0.0.1:${await freePort()}`,
        },
        stdio: ["ignore", "pipe", "inherit"],
      });
      let out = "";
      demo.stdout.on("data", (chunk: Buffer) => {
        out += chunk.toString();
      });
      await new Promise((resolve) => demo.once("close", resolve));
      const summary = JSON.parse(out.trim().split("\n").at(-1) ?? "") as { readonly output_tokens: number };
      const query = encodeURIComponent('sum(tokenwatt_tokens_total{tokenwatt_token_kind="output"})');
      const answer = (await (await fetch(`http://127.0.0.1:${web}/api/v1/query?query=${query}`)).json()) as {
        readonly data: { readonly result: readonly { readonly value: readonly [number, string] }[] };
      };
      expect(summary.output_tokens).toBeGreaterThan(0);
      expect(Number(answer.data.result[0]?.value[1])).toBe(summary.output_tokens);
    });
  },
);
