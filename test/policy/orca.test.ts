// Load reports over real sockets: which server an authority names, what a report says and leaves out, and that a server
// that cannot be read gets none. That Envoy balances by them is judged in test/e2e/policy.
import { afterEach, describe, expect, test } from "vitest";
import type { TokenSample } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import type { Client } from "../../agent/platform/grpc.ts";
import { openChannel } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { tagOf, WireReader } from "../../agent/platform/protobuf-reader.ts";
import { serveLoads } from "../../agent/policy/orca.ts";
import type { ServerLoad } from "../../agent/policy/orca-load.ts";
import { LoadTrack } from "../../agent/policy/orca-load.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0).reverse()) one.close();
});

const load: ServerLoad = {
  applicationUtilization: 0.5,
  requestsPerSecond: 12,
  failedPerSecond: 1,
  utilization: { kv_cache: 0.25, capacity: undefined },
  named: { running: 3 },
};

/** A report's fields by number; maps by key. */
function decode(bytes: Uint8Array): Record<string, number> {
  const reader = new WireReader(bytes);
  const found: Record<string, number> = {};
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag % 8 === 1) found[String(tag >> 3)] = reader.double();
    else {
      const outer = reader.enter();
      let key = "";
      for (let inner = reader.tag(); inner !== 0; inner = reader.tag()) {
        if (inner === tagOf(1, "bytes")) key = reader.text();
        else found[`${tag >> 3} ${key}`] = reader.double();
      }
      reader.leave(outer);
    }
  }
  return found;
}

function stream(
  port: number,
  authority: string,
  onReport: (report: Record<string, number>) => void,
): Promise<number> {
  const client: Client = openChannel(
    { target: `127.0.0.1:${port}` },
    { "grpc.default_authority": authority },
  );
  open.push(client);
  const bytes = (value: Buffer): Buffer => value;
  const path = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";
  const call = client.makeServerStreamRequest(path, bytes, bytes, Buffer.alloc(0));
  open.push({ close: () => call.cancel() });
  return new Promise((resolve) => {
    call.on("data", (report: Buffer) => onReport(decode(report)));
    call.on("error", (error: { code?: number }) => resolve(error.code ?? -1));
  });
}

describe("serveLoads()", () => {
  test("reports at once and then as often as allowed, by the server's name, and only what is known", async () => {
    const clock = virtualClock(0n);
    let now: ServerLoad | undefined = load;
    const parts = {
      clock,
      log: silentLog,
      minimumMs: 1000,
      serverOf: (name: string) => (name === "chat" ? "chat" : undefined),
      loadOf: () => now,
    };
    const listener = await serveLoads({ listen: "127.0.0.1:0" }, parts);
    open.push(listener);
    const seen: Record<string, number>[] = [];
    let arrived = Promise.withResolvers<void>();
    void stream(listener.port, "chat", (report) => {
      seen.push(report);
      arrived.resolve();
    });
    await arrived.promise;
    expect(seen).toEqual([{ "5 kv_cache": 0.25, 6: 12, 7: 1, "8 running": 3, 9: 0.5 }]);
    arrived = Promise.withResolvers();
    now = undefined;
    await clock.advance(2e9);
    now = { ...load, applicationUtilization: 2 };
    await clock.advance(3e9);
    await arrived.promise;
    expect(seen.map((report) => report["9"])).toEqual([0.5, 2]);
    // NOT_FOUND, not UNIMPLEMENTED.
    expect(await stream(listener.port, "other", () => {})).toBe(5);
  });
});

describe("LoadTrack", () => {
  const sample = (seconds: number, more: object, output = 0, requests = {}): TokenSample => ({
    server: "s",
    family: "engine",
    sent: seconds * 1e9,
    received: seconds * 1e9,
    at: seconds * 1e9,
    readings: [{ role: "combined", tokens: { output }, requests, volume: "step", ...more }],
    ignoredSamples: 0,
    errors: [],
  });

  test("takes rates over ten seconds, and begins again where counters fell", () => {
    const track = new LoadTrack();
    for (let second = 0; second <= 30; second++) {
      track.take(sample(second, {}, second < 20 ? 0 : (second - 20) * 100, { ok: second, error: 0 }));
    }
    const found = track.load({ tokensPerSecondMax: 200 });
    expect(found?.named["output_tokens_per_second"]).toBe(100);
    expect([found?.requestsPerSecond, found?.failedPerSecond]).toEqual([1, 0]);
    expect(found?.utilization["capacity"]).toBe(0.5);
    track.take(sample(31, {}, 5));
    expect(track.load({ tokensPerSecondMax: 200 })?.named["tokens_per_second"]).toBeUndefined();
  });

  test("is more than full with a queue, and knows from then on how many run at a time", () => {
    const track = new LoadTrack();
    track.take(sample(1, { running: 4, waiting: 0 }));
    expect(track.load({})?.applicationUtilization).toBeUndefined();
    track.take(sample(2, { running: 8, waiting: 4, kvCacheUtilization: 0.9 }));
    expect(track.load({})?.applicationUtilization).toBe(1.5);
    track.take(sample(3, { running: 4, waiting: 0, kvCacheUtilization: 0.3 }));
    expect(track.load({ quota: 0.7 })).toMatchObject({
      applicationUtilization: 0.5,
      utilization: { quota: 0.7 },
    });
  });

  test("adds what settled intervals say, and headroom where a rate is known", () => {
    const track = new LoadTrack();
    track.take(sample(1, {}, 0));
    track.take(sample(2, {}, 150));
    const settled = { gpus: 2, tokenActiveRatio: 0.75, watts: 900, tokensPerJoule: undefined };
    const found = track.load({ tokensPerSecondMax: 200, settled });
    expect(found?.utilization).toMatchObject({ token_active: 0.75, capacity: 0.75 });
    expect(found?.named).toMatchObject({ watts: 900, headroom_tokens_per_second: 50 });
    expect(track.load({ tokensPerSecondMax: 100 })?.named["headroom_tokens_per_second"]).toBe(0);
    const bare = track.load({});
    expect([
      bare?.utilization["token_active"],
      bare?.named["watts"],
      bare?.named["tokens_per_joule"],
      bare?.named["headroom_tokens_per_second"],
      found?.named["tokens_per_joule"],
    ]).toEqual(Array(5).fill(undefined));
  });

  test("says nothing of what the server does not: no requests, no gauges", () => {
    const track = new LoadTrack();
    track.take(sample(1, {}));
    track.take(sample(2, {}));
    const found = track.load({});
    expect([found?.requestsPerSecond, found?.applicationUtilization, found?.named["running"]]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });
});
