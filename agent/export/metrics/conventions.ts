// Which OpenTelemetry semantic conventions the names follow, and the GenAI names, in one place because they still move.
// Main conventions 1.45.0 (hw.*, process.*, otel.sdk.*, nodejs.*, error.type). GenAI names left them in 1.42 for
// github.com/open-telemetry/semantic-conventions-genai (schema gen-ai/1.42.0, "development"), which keeps the three server
// histograms and their attributes as they were. Re-read both at each release.

/** Schema of resource and scope in every request. A URL names one family; the GenAI names are equal in both. */
export const SCHEMA_URL = "https://opentelemetry.io/schemas/1.45.0";

/** The conventions behind the names, for the page. */
export const CONVENTIONS = "semantic conventions 1.45.0 and GenAI semantic conventions 1.42.0";

/** Written GenAI names, by what they mean to us. */
export const genai = {
  timeToFirstToken: "gen_ai.server.time_to_first_token",
  timePerOutputToken: "gen_ai.server.time_per_output_token",
  requestDuration: "gen_ai.server.request.duration",
  requestModel: "gen_ai.request.model",
  operationName: "gen_ai.operation.name",
  providerName: "gen_ai.provider.name",
} as const;
