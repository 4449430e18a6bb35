# Builds the Go peers of this folder (envoyproxy/ratelimit, grpc-go) through the Go proxy, once per state of the folder, as
# $E2E_TOOLS/policy-peers (default ~/.cache/tokenwatt-tools), and names Debian's Redis as the server it is. Without Go or
# Redis it says so and succeeds: the tests then skip, loudly. About a minute of processor time the first time.
set -e
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}
here=$(cd "$(dirname "$0")" && pwd)/peers
mkdir -p "$tools"
# Debian's redis-server is this very link: the program looks at the name it is called by.
if [ -x /usr/bin/redis-check-rdb ]; then
  ln -sf /usr/bin/redis-check-rdb "$tools/redis-server"
else
  echo "NOT INSTALLED: Redis, of Debian's package redis-tools" >&2
fi
if ! command -v go >/dev/null 2>&1; then
  echo "NOT INSTALLED: the peers of quotas need the go command to be built" >&2
  exit 0
fi
state=$(cat "$here/go.mod" "$here/go.sum" "$here"/*.go | sha256sum | cut -c1-16)
[ -x "$tools/policy-peers" ] && [ "$(cat "$tools/policy-peers.state" 2>/dev/null)" = "$state" ] && exit 0
echo "building the peers of quotas" >&2
(cd "$here" && go build -mod=readonly -trimpath -o "$tools/policy-peers" .)
echo "$state" >"$tools/policy-peers.state"
