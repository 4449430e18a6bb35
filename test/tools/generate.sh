# Regenerates everything that is derived from a source of truth: test/gen from proto/, METRICS.md from the metrics table.
# Everything it writes is committed; tests fail when it is stale.
set -e
sh test/tools/pinned-node.sh
buf generate proto --template test/tools/buf.gen.yaml
node test/tools/metrics-page.ts
node deploy/generate.ts
