{{- define "tokenwatt.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tokenwatt.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "tokenwatt.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tokenwatt.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tokenwatt.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tokenwatt.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tokenwatt.labels" -}}
{{ include "tokenwatt.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- if ne .Release.Service "none" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
{{- end -}}

{{- define "tokenwatt.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* Whether an object of a CRD is wanted: auto follows what the cluster has. */}}
{{- define "tokenwatt.crd" -}}
{{- $wanted := toString .enabled -}}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") (.root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind))) -}}
yes
{{- end -}}
{{- end -}}

{{/* Refuses what would do something else than the reader thinks. */}}
{{- define "tokenwatt.validate" -}}
{{- if and .Values.prometheus.clientAuth (not .Values.prometheus.tlsSecret) -}}
{{- fail "prometheus.clientAuth needs prometheus.tlsSecret: a Secret with tls.crt, tls.key and the scraper's ca.crt" -}}
{{- end -}}
{{- if and (eq .Values.profile "restricted") (eq .Values.nvidia.injection "host-path") -}}
{{- fail "profile restricted has no hostPath: nvidia.injection host-path needs profile standard or attribution" -}}
{{- end -}}
{{- $export := dig "export" "prometheus" dict .Values.config -}}
{{- if or (hasKey $export "listen") (hasKey $export "tenants") (hasKey $export "tls") -}}
{{- fail "config.export.prometheus is set from the value prometheus: the probes must reach the address the agent listens on" -}}
{{- end -}}
{{- if and .Values.kubelet.insecureSkipVerify (not .Values.kubelet.https) -}}
{{- fail "kubelet.insecureSkipVerify is about kubelet.https, which is off" -}}
{{- end -}}
{{- if and .Values.kubelet.https (dig "discovery" "kubelet" false .Values.config) -}}
{{- fail "config.discovery.kubelet is set from the value kubelet.https" -}}
{{- end -}}
{{- if hasKey .Values.config "stateDir" -}}
{{- fail "config.stateDir is set from the value state" -}}
{{- end -}}
{{- end -}}

{{/* kubelet shows no client certificate: with clientAuth a probe can only open the port. */}}
{{- define "tokenwatt.probe" -}}
{{- if .root.Values.prometheus.clientAuth -}}
tcpSocket: {port: metrics}
{{- else -}}
httpGet: {path: {{ .path }}, port: metrics, scheme: {{ ternary "HTTPS" "HTTP" (ne .root.Values.prometheus.tlsSecret "") }}}
{{- end -}}
{{- end -}}
