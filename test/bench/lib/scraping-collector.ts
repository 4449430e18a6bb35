// A real OpenTelemetry Collector that scrapes the pages a daemon reads and sends them on: what a host pays for scraping alone.
// Built once by the Collector's own builder through the Go proxy (minutes), beside the other tools of the separate suite.
import type { ChildProcess } from "node:child_process";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { toolsFolder } from "../../e2e/tools-folder.ts";

const BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.165.0";
const DESCRIPTION = fileURLToPath(new URL("./collector-builder.yaml", import.meta.url));

/** The program, built where it is missing; undefined, said on stderr, where it cannot be built. */
export function scrapingCollector(): string | undefined {
  const path = join(toolsFolder, "otelcol-scrape");
  if (existsSync(path)) return path;
  console.error("building the OpenTelemetry Collector that scrapes: minutes, once");
  const work = mkdtempSync(join(tmpdir(), "otelcol-scrape-"));
  try {
    const run = (command: string, ...words: string[]): boolean =>
      spawnSync(command, words, {
        cwd: work,
        env: { ...process.env, GOBIN: work },
        stdio: ["ignore", "ignore", "inherit"],
      }).status === 0;
    if (!run("go", "install", BUILDER) || !run(join(work, "builder"), "--config", DESCRIPTION)) {
      console.error(`NO COLLECTOR: ${BUILDER} needs Go and its proxy; the daemon is measured alone`);
      return undefined;
    }
    mkdirSync(toolsFolder, { recursive: true });
    cpSync(join(work, "otelcol-scrape/otelcol-scrape"), path);
    return path;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Starts it on these pages, each read every `everySeconds`, with everything sent to `receiver` (`host:port`). */
export function startScraping(
  program: string,
  folder: string,
  pages: readonly string[],
  receiver: string,
  everySeconds: number,
): ChildProcess {
  const jobs = pages.map((page, index) => {
    const { host, pathname } = new URL(page);
    const every = { scrape_interval: `${everySeconds}s`, scrape_timeout: "4s" };
    return {
      job_name: `page-${index}`,
      metrics_path: pathname,
      ...every,
      static_configs: [{ targets: [host] }],
    };
  });
  const config = {
    receivers: { prometheus: { config: { scrape_configs: jobs } } },
    exporters: { otlp: { endpoint: receiver, tls: { insecure: true } } },
    service: {
      telemetry: { metrics: { level: "none" }, logs: { level: "error" } },
      pipelines: { metrics: { receivers: ["prometheus"], exporters: ["otlp"] } },
    },
  };
  const file = join(folder, "collector.yaml");
  writeFileSync(file, JSON.stringify(config));
  return spawn(program, ["--config", file], { stdio: ["ignore", "ignore", "inherit"] });
}
