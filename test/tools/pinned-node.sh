# Refuses to go on with another Node than the one this repository pins, and says how to get it.
# npm before 11.6.2 installs the pinned Node and then deletes its link again without a word (rc 0), because
# two optional packages offer the same `node`; `npm rebuild` puts the link back.
version=$(node --version 2>/dev/null || echo none)
case "$version" in
  v24.2[0-9].* | v24.[3-9][0-9].*) ;;
  *)
    npm=$(npm --version 2>/dev/null || echo unknown)
    echo "Cannot start on Node $version (npm $npm): wanted Node 24.20 or newer, which 'npm ci' puts in node_modules/.bin" >&2
    echo "hint: run 'npm ci && npm rebuild', or update npm with 'npm install -g npm@11' and run 'npm ci' again" >&2
    exit 2
    ;;
esac
