// A LiteLLM metric page of a size asked for, whose counters move with time: a gateway in front of many teams and models.
// Families and labels as in test/fixtures/servers/litellm-1-one-team.prom; the latency histograms are left out.

const STATUS_CODES = ["200", "429"];

/** The page after `seconds` of serving these models to `teams` teams each, padded to at least `bytes`. */
export function litellmPage(
  seconds: number,
  teams: number,
  models: readonly string[],
  bytes: number,
): string {
  const lines: string[] = [];
  for (let team = 0; team < teams; team++) {
    const key = String(team).padStart(64, "0");
    const who = `api_key_alias="bot-${team}",hashed_api_key="${key}",team="team-${team}",team_alias="alias ${team}"`;
    for (const model of models) {
      const labels = `${who},model="${model}",requested_model="${model}"`;
      const tokens = Math.floor(seconds * 50) + team;
      lines.push(
        `litellm_input_tokens_metric_total{${labels}} ${tokens * 4}.0`,
        `litellm_input_cached_tokens_metric_total{${labels}} ${tokens}.0`,
        `litellm_output_tokens_metric_total{${labels}} ${tokens}.0`,
        `litellm_total_tokens_metric_total{${labels}} ${tokens * 5}.0`,
        `litellm_spend_metric_total{${labels}} ${tokens / 1000}`,
      );
      for (const code of STATUS_CODES) {
        const requests = Math.floor(tokens / (code === "200" ? 20 : 400));
        const asked = `${who},requested_model="${model}",status_code="${code}"`;
        lines.push(`litellm_proxy_total_requests_metric_total{${asked}} ${requests}.0`);
      }
    }
  }
  return padded(lines, bytes, "litellm_deployment_latency_per_output_token_bucket");
}

/** Lines as a page of about `bytes`, filled up with series of a family that nobody reads: the same ones at every value. */
export function padded(lines: readonly string[], bytes: number, family: string): string {
  const all = [...lines];
  let size = lines.reduce((sum, line) => sum + line.lastIndexOf(" ") + 8, 0);
  for (let position = 0; size < bytes; position++) {
    const line = `${family}{engine="0",position="${position}"} ${position}`;
    all.push(line);
    size += line.length + 1;
  }
  return `${all.join("\n")}\n`;
}
