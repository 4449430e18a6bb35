// Reads manifests as JSON from stdin and prints what Kubernetes' schemas say against them. kubernetes-models checks
// types, the walk over @kubernetes/client-node's type maps finds unknown keys. Runs where both are installed.
import { readFileSync } from "node:fs";

// Installed for this test only, so no dependency of the project.
const CLIENT = "@kubernetes/client-node";
const client = await import(CLIENT);

const MODULES = {
  "apps/v1": "kubernetes-models/apps/v1",
  v1: "kubernetes-models/v1",
  "rbac.authorization.k8s.io/v1": "kubernetes-models/rbac.authorization.k8s.io/v1",
  "autoscaling/v2": "kubernetes-models/autoscaling/v2",
  "policy/v1": "kubernetes-models/policy/v1",
  "networking.k8s.io/v1": "kubernetes-models/networking.k8s.io/v1",
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
};

const complaints = [];
for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  const where = `${manifest.kind} ${manifest.metadata?.name}`;
  const module = MODULES[manifest.apiVersion];
  const Model = module === undefined ? undefined : (await import(module))[manifest.kind];
  if (Model === undefined) {
    complaints.push(`${where}: no schema for ${manifest.apiVersion}`);
    continue;
  }
  try {
    new Model(manifest).validate();
  } catch (error) {
    complaints.push(`${where}: ${error.message}`);
  }
  const [version = ""] = manifest.apiVersion.split("/").slice(-1);
  const type = client[`${version.toUpperCase()}${manifest.kind}`];
  if (type !== undefined) walk(manifest, type, where);
}
console.log(JSON.stringify(complaints));

function walk(value, type, where) {
  if (typeof value !== "object" || value === null) return;
  const attributes = new Map(type.getAttributeTypeMap().map((one) => [one.baseName, one.type]));
  for (const [key, inner] of Object.entries(value)) {
    const at = `${where}.${key}`;
    const name = attributes.get(key);
    if (name === undefined) {
      complaints.push(`${at}: unknown key`);
      continue;
    }
    const list = /^Array<(\w+)>$/.exec(name);
    const innerType = client[list === null ? name : list[1]];
    if (innerType?.getAttributeTypeMap === undefined) continue;
    for (const one of list === null ? [inner] : inner) walk(one, innerType, at);
  }
}
