# Builds the OpenTelemetry Collector (core, by its own builder) and Prometheus through the Go proxy, once per machine.
# They land in $E2E_TOOLS, default ~/.cache/tokenwatt-tools. Without Go it says so and succeeds: the tests that
# need them then skip, loudly. Takes minutes the first time, Prometheus most of them.
set -e
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
here=$(cd "$(dirname "$0")" && pwd)
builder_version=v0.165.0
prometheus_version=v0.316.0

if ! command -v go >/dev/null 2>&1; then
  echo "NOT INSTALLED: the OpenTelemetry Collector and Prometheus need the go command to be built" >&2
  exit 0
fi
mkdir -p "$tools"
if [ ! -x "$tools/otelcol" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  echo "building the OpenTelemetry Collector $builder_version" >&2
  GOBIN="$work" go install "go.opentelemetry.io/collector/cmd/builder@$builder_version"
  cp "$here/builder.yaml" "$work/"
  (cd "$work" && ./builder --config builder.yaml)
  mv "$work/otelcol/otelcol" "$tools/otelcol"
fi
if [ ! -x "$tools/prometheus" ]; then
  # Without service discovery: nothing here needs it, and the clouds' libraries are most of the build.
  echo "building Prometheus $prometheus_version" >&2
  GOBIN="$tools" go install -tags remove_all_sd "github.com/prometheus/prometheus/cmd/prometheus@$prometheus_version"
fi
