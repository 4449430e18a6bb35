// deploy/chart/values.schema.json: what the chart's values may be. Unknown keys are refused at every level; the value
// `config` is held against the agent's own schema, so that helm already names a typo in it.
import { configJsonSchema } from "../agent/config/load.ts";

type Schema = Readonly<Record<string, unknown>>;

const text: Schema = { type: "string" };
const flag: Schema = { type: "boolean" };
const objects: Schema = { type: "array", items: { type: "object" } };
const free: Schema = { type: "object" };
const texts: Schema = { type: "object", additionalProperties: { type: "string" } };
const automatic: Schema = { enum: ["auto", true, false] };

const section = (properties: Readonly<Record<string, Schema>>): Schema => ({
  type: "object",
  additionalProperties: false,
  properties,
});

/** The file's content. */
export function chartValuesSchema(): string {
  const { $schema: _, ...config } = configJsonSchema() as Record<string, unknown>;
  const quantity = { type: ["string", "number"] };
  const amounts = section({ cpu: quantity, memory: quantity, "ephemeral-storage": quantity });
  const schema = {
    $schema: "http://json-schema.org/draft-07/schema#",
    ...section({
      profile: { enum: ["restricted", "standard", "attribution"] },
      image: section({
        repository: text,
        tag: text,
        digest: { type: "string", pattern: "^(sha256:[0-9a-f]{64})?$" },
        pullPolicy: { enum: ["Always", "IfNotPresent", "Never"] },
        pullSecrets: objects,
      }),
      nvidia: section({
        injection: { enum: ["runtimeClass", "default-runtime", "management-cdi", "nri", "host-path"] },
        runtimeClassName: text,
        visibleDevices: text,
        hostLibraryPath: { type: "string", pattern: "^/" },
      }),
      gpuOperator: section({ driverUpgrade: { enum: ["label", "none"] } }),
      config,
      configFiles: texts,
      otlp: section({
        endpoint: text,
        bearerSecret: section({ name: text, key: text }),
        tlsSecret: text,
      }),
      prometheus: section({
        address: { enum: ["0.0.0.0", "[::]"] },
        port: { type: "integer", minimum: 1024, maximum: 65535 },
        tenants: flag,
        tlsSecret: text,
        clientAuth: flag,
        podMonitor: section({ enabled: automatic, interval: text, labels: texts }),
        rules: section({ enabled: automatic, labels: texts, runbookUrl: text }),
      }),
      dashboards: section({ enabled: flag, label: text, folder: text }),
      networkPolicy: section({ enabled: flag, from: objects }),
      state: section({ hostPath: { type: "string", pattern: "^/" }, emptyDirSize: text }),
      kubelet: section({
        rootDir: { type: "string", pattern: "^/" },
        podResources: flag,
        podsApi: flag,
        https: flag,
        insecureSkipVerify: flag,
      }),
      resources: section({ requests: amounts, limits: amounts }),
      affinity: free,
      nodeSelector: texts,
      tolerations: objects,
      priorityClassName: text,
      updateStrategy: free,
      clusterName: text,
      podAnnotations: texts,
      podLabels: texts,
      extraEnv: objects,
      extraVolumes: objects,
      extraVolumeMounts: objects,
      nameOverride: text,
      fullnameOverride: text,
      global: free,
    }),
  };
  return `${JSON.stringify(schema, null, 1)}\n`;
}
