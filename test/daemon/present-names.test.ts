import { describe, expect, test } from "vitest";
import { underPresentNames } from "../../agent/daemon/present-names.ts";

const row = (key: unknown, value = "1") => ({ key: JSON.stringify(key), value });

describe("underPresentNames()", () => {
  test("carries what was stored under an address over to the name of today", () => {
    expect(
      underPresentNames([
        row(["sample", "vllm@http://localhost:8000/metrics"]),
        row(["sample", "vllm@http://localhost:8000/metrics", "m\u0000t"]),
        row(["receiver", "otlp@127.0.0.1:4317", "points", "7"]),
        row(["sample", "litellm@https://gw.ml:4000/metrics"]),
      ]).map(({ key }) => JSON.parse(key)),
    ).toEqual([
      ["sample", "vllm:8000"],
      ["sample", "vllm:8000", "m\u0000t"],
      ["receiver", "otlp:4317", "points", "7"],
      ["sample", "litellm@gw.ml:4000"],
    ]);
  });

  test("leaves given names, pods and other rows alone, and never replaces a row of today", () => {
    const rows = [
      row(["sample", "chat"]),
      row(["sample", "vllm@team-a/chat-0"]),
      row(["pending"]),
      { key: "price", value: "vllm@http://localhost:8000/metrics" },
      row(["sample", "vllm:8000"], "new"),
    ];
    expect(
      underPresentNames([row(["sample", "vllm@http://localhost:8000/metrics"], "old"), ...rows]),
    ).toEqual(rows);
  });
});
