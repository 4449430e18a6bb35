// The file `tokenwatt config init` prints: what most hosts set, everything else commented out with its default.
import type { ServerType } from "../source.ts";
import { formatYaml } from "./file.ts";

/** A small commented configuration file, valid as it is and after any of its comments is opened. */
export function initialConfig(types: readonly ServerType[]): string {
  return `${HEAD}${types
    .filter((type) => type.name !== "replay")
    .map(serverExample)
    .join("")}${TAIL}`;
}

const HEAD = `# yaml-language-server: $schema=./config.schema.json
# tokenwatt configuration. Every key has a default and may be left out; \`tokenwatt config print\` shows them all,
# \`tokenwatt config check\` judges this file, and \`tokenwatt config schema\` is for your editor.
# A key is also an environment variable: export.prometheus.listen is TOKENWATT_EXPORT_PROMETHEUS_LISTEN.

# Where GPUs are read: auto takes the first backend that works here.
gpu:
  backend: auto

# The inference servers on this host, a list for each type. Open this line and those that you have.
# servers:
`;

const TAIL = `
export:
  # OTLP over gRPC to a Collector; "" sends nothing.
  # otlp:
  #   endpoint: http://localhost:4317
  # /metrics and /-/healthy, /-/ready, /-/status.
  prometheus:
    listen: 127.0.0.1:9464

# Model names as requested, and the model that serves them.
# aliases:
#   my-product: org/model

# What a GPU-hour and a million tokens cost, in a file beside this one.
# prices: prices.yaml

# Resource attributes of everything that is exported.
# resource:
#   deployment.environment.name: production
`;

function serverExample(type: ServerType): string {
  const lines = formatYaml({ [type.name]: [type.example] }).trimEnd();
  return lines.replaceAll(/^/gm, "#   ").concat("\n");
}
