# Renders the chart into the plain manifests beside this file, one per profile, for people without Helm.
# Run: sh deploy/kubernetes/render.sh [folder]; needs helm. test/e2e/deploy-chart.e2e.ts fails when they are stale.
set -e
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
for profile in restricted standard attribution; do
  {
    echo "# tokenwatt, security profile $profile. Rendered from deploy/chart by render.sh; do not edit."
    echo "# Put your servers into the ConfigMap, then: kubectl apply -f tokenwatt-$profile.yaml"
    echo "apiVersion: v1"
    echo "kind: Namespace"
    echo "metadata:"
    echo "  name: tokenwatt"
    if [ $profile = restricted ]; then
      echo "  labels:"
      echo "    pod-security.kubernetes.io/enforce: restricted"
    fi
    helm template tokenwatt "$here/../chart" --namespace tokenwatt --set profile=$profile |
      sed -e '/helm.sh\/chart:/d' -e '/app.kubernetes.io\/managed-by:/d' -e '/^# Source:/d'
  } >"$out/tokenwatt-$profile.yaml"
done
{
  echo "# PodMonitor and PrometheusRule for the Prometheus operator. Rendered from deploy/chart by render.sh; do not edit."
  for part in podmonitor prometheusrule; do
    helm template tokenwatt "$here/../chart" --namespace tokenwatt --show-only templates/$part.yaml \
      --set prometheus.podMonitor.enabled=true --set prometheus.rules.enabled=true |
      sed -e '/helm.sh\/chart:/d' -e '/app.kubernetes.io\/managed-by:/d' -e '/^# Source:/d'
  done
} >"$out/prometheus-operator.yaml"
