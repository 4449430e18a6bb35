// The GenAI names tokenwatt writes, in one place because they still move.
// Source: OpenTelemetry semantic conventions 1.41, GenAI server metrics ("development"); deprecated in the main
// repository since 1.42 and continued in semantic-conventions-genai, which is unreleased. Re-read at each release.

/** Version of the convention the names below follow. */
export const GENAI_CONVENTION = "semantic-conventions 1.41";

/** Written GenAI names, by what they mean to us. */
export const genai = {
  timeToFirstToken: "gen_ai.server.time_to_first_token",
  timePerOutputToken: "gen_ai.server.time_per_output_token",
  requestDuration: "gen_ai.server.request.duration",
  requestModel: "gen_ai.request.model",
  operationName: "gen_ai.operation.name",
  providerName: "gen_ai.provider.name",
} as const;
