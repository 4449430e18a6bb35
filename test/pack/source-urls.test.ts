import { describe, expect, test } from "vitest";
import { rewriteUrls } from "../../deploy/pack/source-urls.ts";

describe("rewriteUrls()", () => {
  test("turns a module into an entry point beside all chunks", () => {
    const source =
      'fork(new URL("./child/main.ts", import.meta.url)); new URL(\n  "../cli/demo/receiver.ts",\n  import.meta.url,\n)';
    const { code, entries, files } = rewriteUrls("agent/gpu/x.ts", source);
    expect(code).toBe(
      'fork(new URL("./gpu-child-main.mjs", import.meta.url)); new URL("./cli-demo-receiver.mjs", import.meta.url)',
    );
    expect(entries).toEqual(["agent/gpu/child/main.ts", "agent/cli/demo/receiver.ts"]);
    expect(files).toEqual([]);
  });

  test("keeps other files at their place in the project, seen from app/", () => {
    const { code, files } = rewriteUrls(
      "agent/cli/demo/x.ts",
      'new URL("../../../deploy/demo", import.meta.url)',
    );
    expect(code).toBe('new URL("../deploy/demo", import.meta.url)');
    expect(files).toEqual(["deploy/demo"]);
  });

  test("leaves addresses alone and refuses what leaves the project", () => {
    const plain = 'new URL(target.url); new URL("http://x/", base)';
    expect(rewriteUrls("agent/x.ts", plain).code).toBe(plain);
    expect(() => rewriteUrls("agent/x.ts", 'new URL("../../etc", import.meta.url)')).toThrow(
      "leaves the project",
    );
  });
});
