# Pushes GenAI usage with the real OpenTelemetry SDK over gRPC: otlp_push.py HOST:PORT delta|cumulative
import sys

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

wanted = AggregationTemporality.DELTA if sys.argv[2] == "delta" else AggregationTemporality.CUMULATIVE
exporter = OTLPMetricExporter(
    endpoint=f"http://{sys.argv[1]}", insecure=True, preferred_temporality={Counter: wanted, Histogram: wanted}
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
