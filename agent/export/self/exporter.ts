// The stock OTLP exporter behind the agent's own metrics, made again whenever what it authenticates with changed.
// It reads headers and certificates once, at its first export (@opentelemetry/otlp-grpc-exporter-base 0.301): after a
// token was rotated it would be refused until the next restart.
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-grpc";
import type { PushMetricExporter } from "@opentelemetry/sdk-metrics";
import { callMetadata, channelCredentials, withoutProxyTo } from "../../platform/grpc.ts";
import { filesState } from "../../platform/tls.ts";
import type { Destination } from "../otlp/config.ts";

type Export = PushMetricExporter["export"];
/** `ExportResultCode.FAILED` of @opentelemetry/core. */
const FAILED = 1;

/** An exporter to a destination. A file that cannot be read fails that export, not the next. */
export function selfExporter(destination: Destination): PushMetricExporter {
  let inner: OTLPMetricExporter | undefined;
  let state = "";
  const current = (): OTLPMetricExporter => {
    const { target, tls } = destination.target;
    const metadata = callMetadata(destination.target);
    const files = tls === undefined || tls === true ? [] : [tls.caFile, tls.certFile, tls.keyFile];
    const now = JSON.stringify([metadata.getMap(), filesState(files)]);
    if (inner !== undefined && now === state) return inner;
    void inner?.shutdown().catch(() => {});
    // Files that do not fit leave none: one that was shut down would not export again.
    inner = undefined;
    state = now;
    const scheme = target.startsWith("unix:") ? "" : tls === undefined ? "http://" : "https://";
    inner = new OTLPMetricExporter({
      url: `${scheme}${target}`,
      timeoutMillis: destination.timeoutMs,
      metadata,
      ...(tls === undefined ? {} : { credentials: channelCredentials(destination.target) }),
    });
    return inner;
  };
  const send: Export = (metrics, done) => {
    try {
      withoutProxyTo(destination.target.target, () => current().export(metrics, done));
    } catch (error) {
      done({ code: FAILED, error: error as Error });
    }
  };
  return {
    export: send,
    forceFlush: async () => inner?.forceFlush(),
    shutdown: async () => inner?.shutdown(),
  };
}
