# Pushes GenAI usage with the real OpenTelemetry SDK over gRPC: otlp_push.py HOST:PORT delta|cumulative [FILES [TOKEN]]
# FILES: with TLS, trusting FILES-ca.pem and showing FILES-client.pem.
import sys

import grpc
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

wanted = AggregationTemporality.DELTA if sys.argv[2] == "delta" else AggregationTemporality.CUMULATIVE


def secure(files, token=None):
    read = lambda ending: open(f"{files}-{ending}", "rb").read()
    pair = {"private_key": read("client.key"), "certificate_chain": read("client.pem")}
    headers = {} if token is None else {"headers": (("authorization", f"Bearer {token}"),)}
    return {"credentials": grpc.ssl_channel_credentials(read("ca.pem"), **pair), **headers}


tls = secure(*sys.argv[3:]) if len(sys.argv) > 3 else {"insecure": True}
exporter = OTLPMetricExporter(
    endpoint=f"{'http' if 'insecure' in tls else 'https'}://{sys.argv[1]}",
    preferred_temporality={Counter: wanted, Histogram: wanted},
    timeout=5,
    **tls,
)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
provider = MeterProvider([reader], resource=Resource({"service.name": f"python-{sys.argv[2]}"}))
meter = provider.get_meter("test")
usage = meter.create_histogram("gen_ai.client.token.usage", unit="{token}")
duration = meter.create_histogram("gen_ai.server.request.duration", unit="s")
for _ in range(3):
    for tokens, kind in ((100, "input"), (40, "cached_input"), (30, "output")):
        usage.record(tokens, {"gen_ai.token.type": kind, "gen_ai.request.model": "m", "team": "a"})
    duration.record(1.5, {"gen_ai.request.model": "m", "team": "a"})
    provider.force_flush()
provider.shutdown()
