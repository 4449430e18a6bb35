import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { environmentName } from "../../agent/config/environment.ts";
import { nearest } from "../../agent/config/nearest.ts";
import { formatPath, leaves, parsePath, valueAt, withValue } from "../../agent/config/paths.ts";
import { masked } from "../../agent/config/secrets.ts";

const step = fc.oneof(fc.nat({ max: 9999 }), fc.string({ minLength: 1, maxLength: 12 }));
const path = fc.array(step, { minLength: 1, maxLength: 5 });

describe("paths", () => {
  test("parsePath() reads what formatPath() writes", () => {
    fc.assert(
      fc.property(path, (steps) => {
        expect(parsePath(formatPath(steps))).toEqual(steps);
      }),
    );
  });

  test("parsePath() refuses what is no path", () => {
    for (const text of ["", ".a", "a.", "a..b", "a[", "a[x]", "[0]b", "a.[0]", "a b"]) {
      expect(parsePath(text), text).toBeUndefined();
    }
  });

  test("withValue() puts a value where valueAt() finds it and leaves the rest alone", () => {
    const root = { rates: { gpuMs: 1 }, servers: { vllm: [{ endpoint: "a" }] } };
    const changed = withValue(root, ["servers", "vllm", 1, "endpoint"], "b");
    expect(valueAt(changed, ["servers", "vllm", 1, "endpoint"])).toBe("b");
    expect(valueAt(changed, ["servers", "vllm", 0, "endpoint"])).toBe("a");
    expect(valueAt(changed, ["rates", "gpuMs"])).toBe(1);
    expect(root.servers.vllm).toHaveLength(1);
  });

  test("withValue() cannot reach a prototype", () => {
    withValue({}, ["__proto__", "polluted"], true);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  test("leaves() names every value once", () => {
    expect(leaves({ a: { b: 1, c: [2, {}] }, d: undefined })).toEqual([
      [["a", "b"], 1],
      [["a", "c", 0], 2],
      [["a", "c", 1], {}],
    ]);
  });

  test("environmentName() is mechanical", () => {
    expect(environmentName(["servers", "token-counters", 0, "pollMs"])).toBe(
      "TOKENWATT_SERVERS_TOKEN_COUNTERS_0_POLL_MS",
    );
    expect(environmentName(["export", "prometheus", "listen"])).toBe("TOKENWATT_EXPORT_PROMETHEUS_LISTEN");
  });
});

describe("nearest()", () => {
  test("finds typos, other cases and other separators, and nothing far off", () => {
    const keys = ["gpuMs", "scrapeMs", "tickMs"];
    expect(nearest("gpu_ms", keys)).toBe("gpuMs");
    expect(nearest("scarpeMs", keys)).toBe("scrapeMs");
    expect(nearest("colour", keys)).toBeUndefined();
  });

  test("finds a word itself, and one with a letter changed, put in, left out or swapped", () => {
    const keys = ["gpuMs", "scrapeSingleMs", "stallAfterSeconds", "spoolBytesMax"];
    const places = fc.record({
      key: fc.constantFrom(...keys),
      at: fc.nat(3),
      letter: fc.constantFrom("x", "q"),
    });
    fc.assert(
      fc.property(places, ({ at, key, letter }) => {
        const [before, after] = [key.slice(0, at), key.slice(at + 1)];
        const swapped = before + (key[at + 1] ?? "") + (key[at] ?? "") + key.slice(at + 2);
        for (const word of [
          key,
          before + letter + after,
          before + letter + key.slice(at),
          before + after,
          swapped,
        ])
          expect(nearest(word, keys)).toBe(key);
      }),
    );
  });
});

describe("masked()", () => {
  test("hides secrets by key, header values and credentials in URLs", () => {
    const shown = masked([], {
      headers: { "x-team": "a", authorization: "Bearer b" },
      password: "c",
      apiKey: "d",
      endpoint: "http://user:pw@host/?token=e&x=1",
      bearerFile: "/run/secrets/token",
      tokensMax: 3,
    });
    expect(shown).toEqual({
      headers: { "x-team": "********", authorization: "********" },
      password: "********",
      apiKey: "********",
      endpoint: "http://********@host/?token=********&x=1",
      bearerFile: "/run/secrets/token",
      tokensMax: 3,
    });
  });
});
