# Puts LiteLLM's proxy into a virtual environment of its own in $E2E_TOOLS (default ~/.cache/tokenwatt-tools), once
# per machine. The version is exact and was checked against the advisories; 1.82.7, 1.82.8 and 1.107.0 were compromised.
set -e
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
version=1.89.7
if ! command -v python3 >/dev/null 2>&1; then
  echo "NOT INSTALLED: LiteLLM needs python3 with venv and pip" >&2
  exit 0
fi
[ "$(cat "$tools/litellm/version" 2>/dev/null)" = "$version" ] && exit 0
rm -rf "$tools/litellm"
python3 -m venv "$tools/litellm"
"$tools/litellm/bin/pip" install --quiet "litellm[proxy]==$version" prometheus_client==0.20.0 \
  opentelemetry-api==1.38.0 opentelemetry-sdk==1.38.0 opentelemetry-exporter-otlp-proto-grpc==1.38.0
echo "$version" >"$tools/litellm/version"
