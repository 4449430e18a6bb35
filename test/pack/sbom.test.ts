import { describe, expect, test } from "vitest";
import { builtinModule } from "../../deploy/pack/builtins.ts";
import type { SbomSubject } from "../../deploy/pack/sbom.ts";
import { sbom } from "../../deploy/pack/sbom.ts";

const subject: SbomSubject = {
  version: "1.2.3",
  architecture: "x64",
  time: 1_790_000_000,
  nodeVersion: "24.21.0",
  packages: [
    { folder: "node_modules/a", name: "a", version: "1.0.0", licence: "MIT" },
    {
      folder: "node_modules/a/node_modules/@b/c",
      name: "@b/c",
      version: "2.0.0",
      licence: "(MIT OR Apache-2.0)",
    },
  ],
  lockfile: {
    "": { version: "1.2.3", dependencies: { a: "1.0.0" } },
    "node_modules/a": {
      version: "1.0.0",
      integrity: "sha512-AAAA",
      dependencies: { "@b/c": "2.0.0", unused: "1" },
    },
    "node_modules/a/node_modules/@b/c": { version: "2.0.0" },
    "node_modules/@b/c": { version: "1.0.0" },
    "node_modules/unused": { version: "1.0.0" },
  },
};

describe("sbom()", () => {
  test("names what is inside, its hash and licence, and who asks for whom", () => {
    const document = JSON.parse(sbom(subject));
    expect(document.components).toMatchObject([
      {
        purl: "pkg:npm/a@1.0.0",
        licenses: [{ license: { id: "MIT" } }],
        hashes: [{ alg: "SHA-512", content: "000000" }],
      },
      { purl: "pkg:npm/%40b/c@2.0.0", licenses: [{ expression: "MIT OR Apache-2.0" }] },
      { purl: "pkg:generic/node@24.21.0?arch=x64" },
    ]);
    expect(document.dependencies).toEqual([
      { ref: "pkg:npm/tokenwatt@1.2.3", dependsOn: ["pkg:npm/a@1.0.0", "pkg:generic/node@24.21.0?arch=x64"] },
      { ref: "pkg:npm/a@1.0.0", dependsOn: ["pkg:npm/%40b/c@2.0.0"] },
      { ref: "pkg:npm/%40b/c@2.0.0", dependsOn: [] },
    ]);
  });

  test("is the same each time, and another for another content", () => {
    expect(sbom(subject)).toBe(sbom(subject));
    const serial = (text: string): string => JSON.parse(text).serialNumber;
    expect(serial(sbom(subject))).toMatch(
      /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    expect(serial(sbom({ ...subject, version: "1.2.4" }))).not.toBe(serial(sbom(subject)));
  });
});

describe("builtinModule()", () => {
  test("exports functions, and nothing that a getter would load", () => {
    const code = builtinModule("http");
    expect(code).toContain("as createServer }");
    expect(code).not.toContain("WebSocket");
  });
});
