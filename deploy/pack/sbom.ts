// What is inside the artefact as a CycloneDX 1.6 document (https://cyclonedx.org/docs/1.6/json/): the packages whose code
// is in the bundle, not all that the lockfile knows, with the hashes of the lockfile. No random serial number, no clock.
import { createHash } from "node:crypto";
import type { Packaged } from "./licences.ts";
import type { Locked } from "./npm-package.ts";

/** What the document describes. */
export interface SbomSubject {
  readonly version: string;
  readonly architecture: string;
  /** Seconds since 1970. */
  readonly time: number;
  readonly packages: readonly Packaged[];
  readonly lockfile: Readonly<Record<string, Locked>>;
  readonly nodeVersion: string;
}

/** The document as text. */
export function sbom(subject: SbomSubject): string {
  const { lockfile, packages, version } = subject;
  const own = `pkg:npm/tokenwatt@${version}`;
  const node = `pkg:generic/node@${subject.nodeVersion}?arch=${subject.architecture}`;
  const references = new Map(packages.map((one) => [one.folder, purl(one)]));
  const components = packages.map((one) => ({
    type: "library",
    "bom-ref": purl(one),
    name: one.name,
    version: one.version,
    purl: purl(one),
    licenses: [licence(one.licence)],
    ...hashes(lockfile[one.folder]),
  }));
  const runtime = {
    type: "platform",
    "bom-ref": node,
    name: "node",
    version: subject.nodeVersion,
    purl: node,
    licenses: [{ license: { id: "MIT" } }],
    ...hashes(lockfile[`node_modules/node-linux-${subject.architecture}`]),
  };
  const body = {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      timestamp: new Date(subject.time * 1000).toISOString(),
      component: {
        type: "application",
        "bom-ref": own,
        name: "tokenwatt",
        version,
        purl: own,
        licenses: [{ license: { id: "Apache-2.0" } }],
      },
    },
    components: [...components, runtime],
    dependencies: [
      { ref: own, dependsOn: [...dependsOn("", lockfile, references), node] },
      ...packages.map((one) => ({ ref: purl(one), dependsOn: dependsOn(one.folder, lockfile, references) })),
    ],
  };
  const digest = createHash("sha256").update(JSON.stringify(body)).digest("hex");
  const serialNumber = `urn:uuid:${digest.slice(0, 8)}-${digest.slice(8, 12)}-5${digest.slice(13, 16)}-8${digest.slice(17, 20)}-${digest.slice(20, 32)}`;
  return `${JSON.stringify({ ...body, serialNumber }, undefined, 2)}\n`;
}

function purl(one: Packaged): string {
  return `pkg:npm/${one.name.replace("@", "%40")}@${one.version}`;
}

function licence(declared: string): object {
  return / (OR|AND|WITH) /.test(declared)
    ? { expression: declared.replace(/^\((.*)\)$/, "$1") }
    : { license: { id: declared } };
}

function hashes(locked: Locked | undefined): object {
  const digest = locked?.integrity?.replace(/^sha512-/, "");
  if (digest === undefined) return {};
  return { hashes: [{ alg: "SHA-512", content: Buffer.from(digest, "base64").toString("hex") }] };
}

/** The packages in the artefact that a package asks for, found as Node finds them: in its folder, then upwards. */
function dependsOn(
  folder: string,
  lockfile: Readonly<Record<string, Locked>>,
  references: ReadonlyMap<string, string>,
): string[] {
  const locked = lockfile[folder];
  const names = Object.keys({ ...locked?.dependencies, ...locked?.optionalDependencies });
  const found = names.map((name) => {
    for (let base = folder; ; base = base.slice(0, base.lastIndexOf("/node_modules/"))) {
      const path = `${base === "" ? "" : `${base}/`}node_modules/${name}`;
      if (lockfile[path] !== undefined) return references.get(path);
      if (!base.includes("/node_modules/")) break;
    }
    return references.get(`node_modules/${name}`);
  });
  return [...new Set(found.filter((reference) => reference !== undefined))].sort();
}
