// The counting receiver: what it counts is what was sent, what it cannot read is refused and counted.
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { startReceiver } from "../../../agent/cli/demo/receiver.ts";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import { grpcTransport } from "../../../agent/export/otlp/transport.ts";
import { point, snapshot, T0 } from "../../export/snapshots.ts";

const signal = new AbortController().signal;
const encoder = createOtlpEncoder({ resource: {}, version: "0" });
const request = (tokens: bigint, isNew = false): Uint8Array => {
  const points = [point("tokenwatt.tokens", tokens, { isNew }), point("hw.power", 300, { series: 2 })];
  return encoder.encode(snapshot(points))[0]?.bytes ?? new Uint8Array(0);
};

describe("startReceiver()", () => {
  test("counts requests, points, series and tokens; a repeated request adds no tokens", async () => {
    const receiver = await startReceiver();
    const transport = grpcTransport({ target: receiver.address }, { gzip: true });
    await transport.send(request(5n, true), signal);
    await transport.send(request(9n), signal);
    await transport.send(request(9n), signal);
    const counts = { requests: 3, data_points: 7, own_points: 0, series: 2, tokens: 9, refused: 0 };
    expect(receiver.counts()).toEqual({ ...counts, last_time: Number(T0 / 1_000_000_000n) + 10 });
    expect(await transport.send(Uint8Array.of(0x0a, 0x7f), signal)).toMatchObject({
      kind: "refused",
      code: "INVALID_ARGUMENT",
    });
    expect(receiver.counts().refused).toBe(1);
    transport.close();
    receiver.close();
  });

  test("forked, tells its address, answers with its counts and leaves with its parent", async () => {
    const child = fork(fileURLToPath(new URL("../../../agent/cli/demo/receiver.ts", import.meta.url)));
    const [{ address }] = (await once(child, "message")) as [{ address: string }];
    const transport = grpcTransport({ target: address }, { gzip: false });
    await transport.send(request(5n), signal);
    transport.close();
    child.send("counts");
    expect((await once(child, "message"))[0]).toMatchObject({ requests: 1, data_points: 2, tokens: 5 });
    child.disconnect();
    expect(await once(child, "exit")).toEqual([0, null]);
  });
});
