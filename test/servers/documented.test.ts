// What the documentation shows works: the server file of CONTRIBUTING and the mappings of SERVERS.md.
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readMapping } from "../../agent/cli/probe/mapping.ts";
import { loadConfig } from "../../agent/config/load.ts";
import { parsePage } from "../../agent/page/parse.ts";
import { genericReader } from "../../agent/servers/prometheus-generic.ts";
import type { PageReader } from "../../agent/source.ts";

const folder = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** The first fenced block of a language in a document. */
function fenced(document: string, language: string): string {
  const text = readFileSync(folder(`../../${document}`), "utf8");
  const [, block] = text.split(`\n\`\`\`${language}\n`);
  return (block as string).split("\n```")[0] as string;
}

function written(name: string, text: string): string {
  const path = join(mkdtempSync(join(tmpdir(), "documented-")), name);
  writeFileSync(path, text);
  return path;
}

describe("the server file of CONTRIBUTING.md", () => {
  test("recognises and reads the page it speaks of", async () => {
    const code = fenced("CONTRIBUTING.md", "ts");
    const server = JSON.stringify(folder("../../agent/servers/page/server.ts"));
    const file = written("acme.ts", code.replace('"./page/server.ts"', server));
    const { acme } = (await import(file)) as { acme: { page: PageReader } };
    const lines = [
      'acme_prompt_tokens_total{model="m"} 70',
      'acme_completion_tokens_total{model="m"} 7',
      'acme_running{model="m"} 1',
    ];
    const page = parsePage(Buffer.from(`${lines.join("\n")}\n`), acme.page.families);
    expect(acme.page.recognises(page)).toBe("acme_* families");
    expect(acme.page.read(page).readings).toMatchObject([
      { model: "m", tokens: { input_unsplit: 70, output: 7 }, running: 1 },
    ]);
  });
});

describe("the mappings of SERVERS.md", () => {
  const map = written("config.yaml", fenced("agent/servers/SERVERS.md", "yaml"));
  const readings = (endpoint: string, ...lines: readonly string[]) =>
    genericReader(readMapping(map, endpoint)).read(parsePage(Buffer.from(`${lines.join("\n")}\n`))).readings;

  test("are a configuration", () => {
    const { config } = loadConfig({ env: {}, file: map });
    expect(config.servers["prometheus-generic"]).toHaveLength(3);
  });

  test("read what their comments say", () => {
    expect(
      readings(
        "localhost:9000",
        'acme:prompt_tokens_total{model_name="m"} 10',
        'acme:prompt_tokens_cached_total{model_name="m"} 4',
        'acme:generation_tokens_total{model_name="m"} 3',
      ),
    ).toMatchObject([
      { model: "m", volume: "step", tokens: { input_uncached: 6, input_cached: 4, output: 3 } },
    ]);
    expect(
      readings(
        "gateway.internal:9100",
        'acme_token_usage_sum{team="a",token_type="prompt"} 10',
        'acme_token_usage_sum{team="a",token_type="completion"} 3',
        'acme_token_usage_sum{team="a",token_type="total"} 13',
        'acme_requests_total{team="a",status="ok"} 2',
        'acme_requests_total{team="a",status="throttled"} 1',
      ),
    ).toMatchObject([
      { tenant: "a", tokens: { input_unsplit: 10, output: 3 }, requests: { ok: 2, rejected: 1 } },
    ]);
    expect(
      readings(
        "localhost:9001",
        ...["0", "1"].flatMap((rank) => [
          `acme_computed_tokens_total{rank="${rank}"} 6`,
          `acme_hit_tokens_total{rank="${rank}"} 4`,
          `acme_output_tokens_total{rank="${rank}"} 3`,
        ]),
      ),
    ).toMatchObject([{ tokens: { input_uncached: 6, input_cached: 4, output: 3 } }]);
  });
});
