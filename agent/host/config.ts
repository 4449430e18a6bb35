// The section `host`: how the host's own power is read, and the factors of its site. The section `discovery.kubelet`: how
// a kubelet without the Pods API is asked.
import { z } from "zod";
import type { Parsed } from "../platform/address.ts";
import { addressText, isFault, parseWebAddress } from "../platform/address.ts";
import { accountCaFile, accountTokenFile } from "./kubelet/https.ts";
import { hostPowerConfig } from "./power/power.ts";

/** The section `host`. */
export const hostConfig = z.strictObject({
  power: hostPowerConfig.prefault({}),
  /** Power usage effectiveness of the site; absent = no facility energy. */
  pue: z.number().min(1).max(10).optional(),
  /** Node energy per GPU energy, used where the node itself is not measured. */
  hostOverhead: z.number().min(1).max(10).optional(),
});

/** The section as the agent is given it. */
export type HostConfig = z.output<typeof hostConfig>;

/** The section `discovery.kubelet`; absent = the kubelet's HTTPS port is not asked. */
export const kubeletConfig = z
  .strictObject({
    endpoint: addressText(parseKubeletAddress).describe('"https://host:port", the kubelet of this node.'),
    tokenFile: z.string().min(1).default(accountTokenFile).describe("Needs `get` on nodes/pods."),
    caFile: z
      .string()
      .min(1)
      .default(accountCaFile)
      .describe("Who signed the kubelet's certificate: the cluster, or the kubelet itself."),
    serverName: z
      .string()
      .min(1)
      .optional()
      .describe("The name the certificate must bear; default the endpoint's host."),
    insecureSkipVerify: z
      .boolean()
      .default(false)
      .describe("Believe any certificate; whoever answers is shown the token."),
  })
  .describe(
    "Ask the kubelet's /pods over HTTPS where its Pods API does not answer (kubelets older than 1.37).",
  );

function parseKubeletAddress(text: string): Parsed {
  const address = parseWebAddress(text);
  const hint = 'the kubelet of this node, for example "https://10.0.0.7:10250"';
  if (isFault(address)) return { ...address, hint: text.includes("@") ? address.hint : hint };
  return address.secure && /:\d+$/.test(text) ? address : { wanted: "https://host:port", hint };
}
