// deploy/kubernetes/otel-gateway.yaml: the gateway Collectors as Deployment, Service, HorizontalPodAutoscaler and PodDisruptionBudget,
// with the shipped Collector files as they are. They keep nothing, so pods may come and go; agents keep what no gateway took.
import { readFileSync } from "node:fs";

/** Collector files in the ConfigMap; the variable GATEWAY of the Deployment says which one runs. */
const FILES = ["gateway-prometheus.yaml", "gateway-clickhouse.yaml", "tls.yaml"];
const NAME = "otel-gateway";
const LABELS = `app.kubernetes.io/name: ${NAME}`;

const file = (name: string): string => readFileSync(new URL(`../collector/${name}`, import.meta.url), "utf8");
const indented = (text: string): string => text.trimEnd().replaceAll(/^(?=.)/gm, "    ");

const DEPLOYMENT = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: ${NAME}
  namespace: tokenwatt
  labels: {${LABELS}}
spec:
  # No replicas: the HorizontalPodAutoscaler has the say.
  selector:
    matchLabels: {${LABELS}}
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  template:
    metadata:
      labels: {${LABELS}}
    spec:
      serviceAccountName: ${NAME}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 45
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        seccompProfile: {type: RuntimeDefault}
      # Two gateways on one node are one gateway when the node goes.
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {${LABELS}}
        - maxSkew: 1
          topologyKey: topology.kubernetes.io/zone
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {${LABELS}}
      containers:
        - name: collector
          image: otel/opentelemetry-collector-contrib:0.165.0
          args:
            - --config=/etc/otelcol/$(GATEWAY).yaml
            # With certificates from the secret below:
            # - --config=/etc/otelcol/tls.yaml
          env:
            # Or gateway-clickhouse, with CLICKHOUSE, CLICKHOUSE_USER and CLICKHOUSE_PASSWORD (from a secret).
            - {name: GATEWAY, value: gateway-prometheus}
            - {name: BACKEND, value: "http://prometheus.monitoring:9090/api/v1/otlp"}
            # The limits below, so that it refuses and collects garbage before it would be killed.
            - {name: MEMORY_LIMIT_MIB, value: "1600"}
            - {name: GOMEMLIMIT, value: 1600MiB}
          ports:
            - {name: otlp, containerPort: 4317}
            - {name: health, containerPort: 13133}
          startupProbe:
            httpGet: {path: /, port: health}
            failureThreshold: 30
            periodSeconds: 1
          readinessProbe:
            httpGet: {path: /, port: health}
            periodSeconds: 5
          livenessProbe:
            httpGet: {path: /, port: health}
            periodSeconds: 10
            failureThreshold: 6
          lifecycle:
            # Until the Service has taken it out, agents still come.
            preStop:
              sleep: {seconds: 10}
          resources:
            requests: {cpu: "1", memory: 1Gi}
            limits: {memory: 2Gi}
          terminationMessagePolicy: FallbackToLogsOnError
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: config, mountPath: /etc/otelcol, readOnly: true}
            # - {name: tls, mountPath: /etc/otelcol-tls, readOnly: true}
      volumes:
        - name: config
          configMap: {name: ${NAME}}
        # - {name: tls, secret: {secretName: ${NAME}-tls}}
`;

const AROUND = `apiVersion: v1
kind: Service
metadata:
  name: ${NAME}
  namespace: tokenwatt
  labels: {${LABELS}}
spec:
  # A connection stays with its pod; each ends after 10 minutes (max_connection_age) and is handed out again.
  selector: {${LABELS}}
  ports:
    - {name: otlp, port: 4317, targetPort: otlp, appProtocol: kubernetes.io/h2c}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: ${NAME}
  namespace: tokenwatt
  labels: {${LABELS}}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: ${NAME}}
  # docs/sizing.md: what a gateway carries.
  minReplicas: 2
  maxReplicas: 100
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}
    # Of the request, half of the limit: connections take memory whether they send or not.
    - type: Resource
      resource: {name: memory, target: {type: Utilization, averageUtilization: 90}}
  behavior:
    scaleUp:
      policies: [{type: Percent, value: 100, periodSeconds: 60}]
    # After an outage backlogs come and go.
    scaleDown:
      stabilizationWindowSeconds: 900
      policies: [{type: Percent, value: 20, periodSeconds: 300}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: ${NAME}
  namespace: tokenwatt
  labels: {${LABELS}}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {${LABELS}}
`;

/** The manifests, for kubectl apply. */
export function gatewayManifests(): string {
  const files = FILES.map((name) => `  ${name}: |\n${indented(file(name))}`);
  return `# Gateway Collectors in front of Prometheus, Mimir or ClickHouse. Generated from deploy/kubernetes/gateway.ts, not to be edited.
# Set BACKEND, then: kubectl apply -f otel-gateway.yaml. Agents and node Collectors send to otel-gateway.tokenwatt:4317.
apiVersion: v1
kind: ServiceAccount
metadata:
  name: ${NAME}
  namespace: tokenwatt
  labels: {${LABELS}}
automountServiceAccountToken: false
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: ${NAME}
  namespace: tokenwatt
  labels: {${LABELS}}
data:
${files.join("\n")}
---
${DEPLOYMENT}---
${AROUND}`;
}
