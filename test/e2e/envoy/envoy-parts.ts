// Parts of Envoy's configuration that every test with Envoy has: clusters and addresses of loopback, the filter that puts the
// usage of an answer's body where Envoy AI Gateway puts it, and the access log over gRPC.

/** The namespace of Envoy AI Gateway's metadata. */
export const NAMESPACE = "io.envoy.ai_gateway";
/** What the names of Envoy's extension types begin with. */
export const TYPE = "type.googleapis.com/envoy.extensions";

/** An address of loopback. */
export function address(port: number, host = "127.0.0.1"): object {
  return { socket_address: { address: host, port_value: port } };
}

/** A cluster of one address of loopback. */
export function cluster(name: string, port: number): object {
  const endpoints = [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }];
  return { name, type: "STATIC", connect_timeout: "2s", load_assignment: { cluster_name: name, endpoints } };
}

/** The keys that make a cluster speak HTTP/2. */
export function http2(): object {
  const options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  return {
    typed_extension_protocol_options: {
      [options]: {
        "@type": `type.googleapis.com/${options}`,
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  };
}

/** The filter that takes numbers of the answer's body, each by its path, into metadata under these keys. */
export function usageMetadata(paths: Readonly<Record<string, string>>): object {
  const rules = Object.entries(paths).map(([key, path]) => ({
    selectors: path.split(".").map((each) => ({ key: each })),
    on_present: { metadata_namespace: NAMESPACE, key, type: "NUMBER" },
  }));
  return {
    name: "envoy.filters.http.json_to_metadata",
    typed_config: {
      "@type": `${TYPE}.filters.http.json_to_metadata.v3.JsonToMetadata`,
      response_rules: { rules },
    },
  };
}

/** The access log over gRPC to the cluster `logs`, with the tenant's header. */
export function accessLogService(): object {
  return {
    name: "envoy.access_loggers.http_grpc",
    typed_config: {
      "@type": `${TYPE}.access_loggers.grpc.v3.HttpGrpcAccessLogConfig`,
      common_config: {
        log_name: "usage",
        transport_api_version: "V3",
        buffer_flush_interval: "0.2s",
        grpc_service: { envoy_grpc: { cluster_name: "logs" } },
      },
      additional_request_headers_to_log: ["x-tenant"],
    },
  };
}
