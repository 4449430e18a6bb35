import { describe, expect, test } from "vitest";
import { underPresentAttributes, underPresentNames } from "../../agent/daemon/present-names.ts";

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

describe("underPresentAttributes()", () => {
  const series = (id: number, metric: string, dimensions: Record<string, string>, role?: "kept") => ({
    ...{ series: id, metric, dimensions, start: "0", total: String(id), announced: 1 },
    ...(role === undefined ? {} : { role }),
  });

  test("gives keys their namespace and hw.* series what they lack, and keeps number, start and total", () => {
    expect(
      underPresentAttributes([
        series(1, "tokenwatt.gap_time", { "tokenwatt.source": "gpu", reason: "timeout" }),
        series(2, "tokenwatt.gpu.xid_events", { "hw.id": "GPU-1", code: "79" }),
        series(3, "hw.energy", { "hw.id": "GPU-1", "hw.type": "gpu" }),
        series(4, "hw.host.energy", { "tokenwatt.method": "counter" }),
        series(5, "tokenwatt.tokens", { "tokenwatt.server.id": "chat" }),
      ]),
    ).toEqual([
      series(1, "tokenwatt.gap_time", { "tokenwatt.source": "gpu", "tokenwatt.reason": "timeout" }),
      series(2, "tokenwatt.gpu.xid_events", { "hw.id": "GPU-1", "tokenwatt.xid.code": "79" }),
      series(3, "hw.energy", { "hw.id": "GPU-1", "hw.type": "gpu", "hw.vendor": "NVIDIA" }),
      series(4, "hw.host.energy", { "tokenwatt.method": "counter", "hw.id": "host" }),
      series(5, "tokenwatt.tokens", { "tokenwatt.server.id": "chat" }),
    ]);
  });

  test("never makes two series of one name: what is there under the name of today wins", () => {
    const old = series(1, "tokenwatt.dropped", { reason: "invalid" });
    const today = series(2, "tokenwatt.dropped", { "tokenwatt.reason": "invalid" });
    expect(underPresentAttributes([old, today])).toEqual([old, today]);
    const kept = series(3, "tokenwatt.dropped", { reason: "invalid" }, "kept");
    expect(underPresentAttributes([today, kept])).toEqual([
      today,
      { ...kept, dimensions: { "tokenwatt.reason": "invalid" } },
    ]);
  });
});
