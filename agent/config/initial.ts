// The file `tokenwatt config init` prints: what most hosts set, everything else commented out with its default.
import type { ServerType } from "../source.ts";
import { formatYaml } from "./file.ts";

/**
 * A small commented configuration file, valid as it is and after its comments are opened. The server types named in
 * `open` stand open at their example address; without any, all there are stand there as comments.
 */
export function initialConfig(types: readonly ServerType[], open: readonly string[] = []): string {
  const shown = types.filter((type) =>
    open.length === 0 ? type.name !== "replay" : open.includes(type.name),
  );
  const mark = open.length === 0 ? "# " : "";
  const examples = shown.map((type) => formatYaml({ [type.name]: [type.example] }));
  return `${HEAD}${mark}servers:\n${examples.join("").replaceAll(/^(?=.)/gm, `${mark}  `)}${TAIL}`;
}

const HEAD = `# yaml-language-server: $schema=./config.schema.json
# tokenwatt configuration. Every key has a default and may be left out; \`tokenwatt config print\` shows them all,
# \`tokenwatt config check\` judges this file, and \`tokenwatt config schema\` is for your editor.
# A key is also an environment variable: export.prometheus.listen is TOKENWATT_EXPORT_PROMETHEUS_LISTEN.

# Where GPUs are read: auto takes the first backend that works here.
gpu:
  backend: auto

# The inference servers on this host, a list for each type. Receivers (otlp, envoy-access-log, usage-reports) listen best on a
# unix socket, as in "endpoint: unix:/run/tokenwatt/otlp.sock": only the agent's user and group reach it. The folder must be
# there. A gateway that cannot call one calls the port of loopback below.
`;

const TAIL = `
export:
  # OTLP over gRPC to a Collector; "" sends nothing.
  # otlp:
  #   endpoint: http://localhost:4317
  # /metrics and /-/healthy, /-/ready, /-/status.
  prometheus:
    listen: 127.0.0.1:9464

# Factors of the site: facility energy is modelled from them, and from nothing else.
# host: {pue: 1.3, hostOverhead: 1.3}

# Servers behind the GPU processes are looked for on loopback, and those in pods of this node that hold GPUs or ask for it
# by annotations; this leaves it at the list above.
# discovery: {enabled: false, kubernetes: off}

# Tokens per GPU-hour a server can sustain, and the latencies a request should meet.
# capacity:
#   llama-8b: 30000000
# objectives: [{name: interactive, seconds: {time_to_first_token: 1, inter_token_latency: 0.05}}]

# Model names as requested, and the model that serves them.
# aliases:
#   my-product: org/model

# What a GPU-hour and a million tokens cost, in a file beside this one.
# prices: prices.yaml

# Resource attributes of everything that is exported.
# resource:
#   deployment.environment.name: production
`;
