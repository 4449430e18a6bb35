# Puts a real Prometheus client and a real OpenTelemetry SDK for python into a virtual environment, once per machine, in
# $E2E_TOOLS (default ~/.cache/tokenwatt-tools). Without python it says so and succeeds: the tests then skip.
set -e
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
if ! command -v python3 >/dev/null 2>&1; then
  echo "NOT INSTALLED: python clients need python3" >&2
  exit 0
fi
[ -x "$tools/python/bin/python" ] || python3 -m venv "$tools/python"
"$tools/python/bin/python" -c "import prometheus_client, opentelemetry.exporter.otlp.proto.grpc, grpc_reflection, grpc_health" 2>/dev/null ||
  "$tools/python/bin/pip" install --quiet prometheus_client==0.26.0 opentelemetry-sdk==1.45.2 \
    opentelemetry-exporter-otlp-proto-grpc==1.45.2 grpcio-reflection==1.85.1 grpcio-health-checking==1.85.1
