// Manifests judged by Kubernetes' own schemas: the packages that hold them are installed for the run, and said when they cannot be.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runTool } from "./deploy-tools.ts";

const script = fileURLToPath(new URL("deploy-chart-judge.mjs", import.meta.url));
const PACKAGES = [
  "kubernetes-models@5.1.0",
  "@kubernetes-models/prometheus-operator@6.0.0",
  "@kubernetes/client-node@2.0.1",
];

/** What the schemas say against manifests; empty where they say nothing. */
export type Judge = (manifests: readonly unknown[]) => string[];

/** Installs the schemas into `folder`; undefined, said loudly, where npm cannot. */
export function installJudge(folder: string): Judge | undefined {
  cpSync(script, join(folder, "judge.mjs"));
  const flags = ["install", "--no-audit", "--no-fund", "--prefix", folder];
  const { status } = spawnSync("npm", [...flags, ...PACKAGES]);
  if (status !== 0 || !existsSync(join(folder, "node_modules/kubernetes-models"))) {
    console.warn("SKIPPED: manifests against Kubernetes' schemas, because npm could not install them");
    return undefined;
  }
  return (manifests) => {
    const judged = runTool(process.execPath, [join(folder, "judge.mjs")], JSON.stringify(manifests));
    if (judged.status !== 0) throw new Error(judged.text);
    return JSON.parse(judged.text) as string[];
  };
}
