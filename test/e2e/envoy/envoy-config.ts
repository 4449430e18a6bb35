// Envoy's configuration for the tests: a proxy on loopback before one upstream, whose filters put the usage of the
// answer's body where Envoy AI Gateway puts it, and which logs every request over gRPC.
import { accessLogService, address, cluster, http2, NAMESPACE, TYPE, usageMetadata } from "./envoy-parts.ts";

/** What the configuration depends on. */
export interface EnvoyConfig {
  readonly port: number;
  readonly adminPort: number;
  readonly upstreamPort: number;
  /** Where access logs go, and in which form. */
  readonly logs: { readonly kind: "als" | "otlp"; readonly port: number };
  /** Client certificate and authority for the log connection. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly authority: string };
}

/** Where usage is in an answer, by the key it goes under. */
const USAGE = {
  llm_input_token: "usage.prompt_tokens",
  llm_cached_input_token: "usage.prompt_tokens_details.cached_tokens",
  llm_output_token: "usage.completion_tokens",
  llm_reasoning_token: "usage.completion_tokens_details.reasoning_tokens",
};

/** The bootstrap configuration as JSON. */
export function envoyConfig(config: EnvoyConfig): string {
  return JSON.stringify({
    node: { id: "gateway", cluster: "gateways" },
    admin: { address: address(config.adminPort) },
    static_resources: {
      listeners: [
        { name: "http", address: address(config.port), filter_chains: [{ filters: [http(config)] }] },
      ],
      clusters: [
        cluster("upstream", config.upstreamPort),
        { ...cluster("logs", config.logs.port), ...http2(), ...transport(config) },
      ],
    },
  });
}

function http(config: EnvoyConfig): object {
  return {
    name: "envoy.filters.network.http_connection_manager",
    typed_config: {
      "@type": `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: "http",
      // Entries of requests that begin or still run, and of upstream attempts: none of them may count.
      access_log_options: { flush_access_log_on_new_request: true, access_log_flush_interval: "0.1s" },
      access_log: [config.logs.kind === "als" ? accessLogService() : openTelemetry()],
      http_filters: [requestMetadata(), usageMetadata(USAGE), router(config)],
      route_config: {
        virtual_hosts: [
          {
            name: "all",
            domains: ["*"],
            routes: [{ name: "chat", match: { prefix: "/" }, route: { cluster: "upstream", timeout: "0s" } }],
          },
        ],
      },
    },
  };
}

/** AI Gateway knows the backend before the answer, so requests that fail carry metadata too. */
function requestMetadata(): object {
  return {
    name: "envoy.filters.http.set_metadata",
    typed_config: {
      "@type": `${TYPE}.filters.http.set_metadata.v3.Config`,
      metadata: [{ metadata_namespace: NAMESPACE, value: { backend_name: "b", model_name_override: "m" } }],
    },
  };
}

function router({ logs }: EnvoyConfig): object {
  return {
    name: "envoy.filters.http.router",
    typed_config: {
      "@type": `${TYPE}.filters.http.router.v3.Router`,
      upstream_log: logs.kind === "als" ? [accessLogService()] : [],
    },
  };
}

function openTelemetry(): object {
  const text = (key: string, value: string): object => ({ key, value: { string_value: value } });
  const metadata = (key: string): string => `%DYNAMIC_METADATA(${NAMESPACE}:${key})%`;
  return {
    name: "envoy.access_loggers.open_telemetry",
    typed_config: {
      "@type": `${TYPE}.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig`,
      log_name: "usage",
      buffer_flush_interval: "0.2s",
      grpc_service: { envoy_grpc: { cluster_name: "logs" } },
      resource_attributes: { values: [text("service.name", "gateway")] },
      attributes: {
        values: [
          text("gen_ai.request.model", metadata("model_name_override")),
          text("gen_ai.usage.input_tokens", metadata("llm_input_token")),
          text("gen_ai.usage.cache_read.input_tokens", metadata("llm_cached_input_token")),
          text("gen_ai.usage.output_tokens", metadata("llm_output_token")),
          text("http.response.status_code", "%RESPONSE_CODE%"),
          text("tenant", "%REQ(X-TENANT)%"),
        ],
      },
    },
  };
}

function transport({ tls }: EnvoyConfig): object {
  if (tls === undefined) return {};
  return {
    transport_socket: {
      name: "envoy.transport_sockets.tls",
      typed_config: {
        "@type": `${TYPE}.transport_sockets.tls.v3.UpstreamTlsContext`,
        sni: "localhost",
        common_tls_context: {
          tls_certificates: [
            { certificate_chain: { filename: tls.cert }, private_key: { filename: tls.key } },
          ],
          validation_context: { trusted_ca: { filename: tls.authority } },
        },
      },
    },
  };
}
