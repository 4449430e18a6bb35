# Builds the kubelet's peer of this folder (its generated server code, pods of k8s.io/api) through the Go proxy, once per
# state of the folder, as $E2E_TOOLS/kubelet-peer (default ~/.cache/tokenwatt-tools). Without Go it says so and
# succeeds: the tests then skip, loudly. About a minute of processor time the first time.
set -e
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v go >/dev/null 2>&1; then
  echo "NOT INSTALLED: the kubelet's peer needs the go command to be built" >&2
  exit 0
fi
mkdir -p "$tools"
state=$(cat "$here/go.mod" "$here/go.sum" "$here/main.go" | sha256sum | cut -c1-16)
[ -x "$tools/kubelet-peer" ] && [ "$(cat "$tools/kubelet-peer.state" 2>/dev/null)" = "$state" ] && exit 0
echo "building the kubelet's peer" >&2
(cd "$here" && go build -mod=readonly -trimpath -o "$tools/kubelet-peer" .)
echo "$state" >"$tools/kubelet-peer.state"
