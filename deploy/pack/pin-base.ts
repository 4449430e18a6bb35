// Pins the present versions of the image's Debian packages into debian-base.json.
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Pinned } from "./debian-base.ts";
import { BASE_PACKAGES, downloadPackage } from "./debian-base.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const cache = join(root, "node_modules/.cache/tokenwatt");
mkdirSync(cache, { recursive: true });
const pinned = ["amd64", "arm64"].flatMap((architecture) =>
  BASE_PACKAGES.map((name) => pin(name, architecture)),
);
writeFileSync(join(root, "deploy/pack/debian-base.json"), `${JSON.stringify(pinned, undefined, 2)}\n`);

function pin(name: string, architecture: string): Pinned {
  const folder = mkdtempSync(join(cache, "pin-"));
  try {
    const path = downloadPackage(root, folder, architecture, name);
    const version = decodeURIComponent(basename(path).split("_")[1] as string);
    return {
      name,
      version,
      architecture,
      sha256: createHash("sha256").update(readFileSync(path)).digest("hex"),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
