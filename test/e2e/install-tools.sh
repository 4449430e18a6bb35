# Puts the tools of the separate suite in place, each folder its own; what cannot be had is said and skipped later.
cd "$(dirname "$0")" || exit 1
for script in */install.sh; do
  sh "$script" || echo "NOT INSTALLED: $script failed; its tests will skip" >&2
done
