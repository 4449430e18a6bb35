// The ledger finds a series by the identity of its attribute set: what is read again and again must come under the same one.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { JoinedSets, SetsOf, WithAttribute } from "../../agent/meter/attribute-sets.ts";
import { DeviceCounters } from "../../agent/meter/device-counters.ts";
import { Convenience } from "../../agent/meter/figures/ratios.ts";
import {
  gatewayInfoGauge,
  gpuGauges,
  gpuInfoGauge,
  serverGauges,
  serverInfoGauge,
} from "../../agent/meter/gauges.ts";
import { HolderSets } from "../../agent/meter/holders.ts";
import { Meter } from "../../agent/meter/meter.ts";
import type { Dimensions, GpuSample, ServerInfo, TokenSample } from "../../agent/model.ts";
import { factsOf, gateway, h100, intervalOf, moved, SECOND } from "./fixtures.ts";

/** What two readings name: each set of the second must be one of the first. */
function expectSame(read: (time: number) => readonly { readonly dimensions: Dimensions }[]): void {
  const [first, second] = [read(1), read(2)];
  expect(second.length).toBeGreaterThan(0);
  const known = new Set(first.map(({ dimensions }) => dimensions));
  for (const { dimensions } of second) expect(known.has(dimensions), JSON.stringify(dimensions)).toBe(true);
}

function gpuAt(at: number): GpuSample {
  return {
    ...{ gpu: h100.uuid, at: at * SECOND, powerWatts: 300, energyMillijoules: at * 1000 },
    eccErrors: { corrected: at },
    throttleSeconds: { power_cap: at },
    trafficBytes: { pcieTransmit: at, pcieReceive: at, nvlinkTransmit: at, nvlinkReceive: at },
    xidEvents: { 79: at },
  } as GpuSample;
}

function sampleOf({ id }: ServerInfo, at: number, version?: string): TokenSample {
  const reading = { role: "combined", epoch: "start:1", running: at, waiting: 0, kvCacheUtilization: 0.5 };
  return {
    server: id,
    at,
    readings: [reading],
    ...(version === undefined ? {} : { version }),
  } as unknown as TokenSample;
}

describe("attribute sets of what is read again", () => {
  it("are the same for the gauges and counters of a GPU", () => {
    const counters = new DeviceCounters();
    counters.countSample(h100, gpuAt(0));
    expectSame((at) => [
      ...counters.countSample(h100, gpuAt(at)),
      ...gpuGauges(h100, gpuAt(at), 1000),
      gpuInfoGauge(h100, at, 1000),
    ]);
  });

  it("are the same for the gauges of a server, and others once it names another version", () => {
    const read = (at: number, version?: string) => [
      ...serverGauges(gateway, sampleOf(gateway, at)),
      serverInfoGauge(gateway, sampleOf(gateway, at, version)),
      gatewayInfoGauge(gateway, sampleOf(gateway, at)),
    ];
    expectSame(read);
    const [old, fresh] = ["1", "2"].map((version) => serverInfoGauge(gateway, sampleOf(gateway, 3, version)));
    expect([old, fresh].map((one) => one?.dimensions["tokenwatt.server.version"])).toEqual(["1", "2"]);
  });

  it("are the same for a holder, by product", () => {
    const sets = new HolderSets();
    const held = { holder: { kind: "pod", name: "p" }, nanos: 5, millijoules: 7 };
    const [gpu] = intervalOf({ from: 0, to: 1 }).gpus;
    expectSame(() => sets.postings({ ...gpu, holders: [held] } as never, h100));
  });

  it("are the same for all that an interval is posted under, and for what the ledger keeps it under", () => {
    const meter = new Meter();
    const facts = { ...factsOf(), powerLimit: () => 700 };
    const uncertain = [{ reason: "coarse_windows", server: "vllm-0", nanos: 3, millijoules: 2 }];
    const interval = intervalOf({
      ...{ from: 0, to: 1, seconds: { token_active: 0.6, parked: 0.4 }, joules: { token_active: 300 } },
      increments: [
        moved({ tokens: { output: 9 }, requests: { ok: 1, error: 1 }, doubt: "partial_counters" }),
        moved({ tokens: { input_cached: 4 }, late: true, resets: 1 }),
      ],
    });
    const gpus = interval.gpus.map((gpu) => ({ ...gpu, uncertain })) as typeof interval.gpus;
    const metered = () =>
      meter.meterInterval({ ...interval, gpus, lateSamples: 2, violations: ["a law: 1"] }, facts);
    expectSame(() => [
      ...metered(),
      ...metered().flatMap(({ kept, metric }) => (kept ? [{ metric, dimensions: kept }] : [])),
    ]);
    const rows = metered().filter(({ metric }) =>
      ["tokenwatt.gpu.time", "tokenwatt.tokens"].includes(metric),
    );
    expect(new Set(rows.map(({ metric }) => metric)).size).toBe(2);
    for (const { dimensions, kept } of rows)
      expect(kept).toEqual({ ...dimensions, "tokenwatt.power_limit": "700" });
  });

  it("are the same for the ratios of every window", () => {
    const { gpus } = factsOf();
    const ratios = new Convenience();
    const states = { seconds: { token_active: 10 }, joules: { token_active: 3000 } };
    expectSame((at) =>
      ratios.takeInterval(
        intervalOf({
          from: 10 * at,
          to: 10 * at + 10,
          ...states,
          increments: [moved({ tokens: { output: 9 } })],
        }),
        gpus,
      ),
    );
  });
});

describe("SetsOf", () => {
  it("makes a set once for a thing and a name, and forgets names that come without end", () => {
    const [sets, thing] = [new SetsOf<object>(), {}];
    let made = 0;
    const of = (name: string): Dimensions => sets.of(thing, name, () => ({ made: String(++made) }));
    expect(of("a")).toBe(of("a"));
    expect(sets.of({}, "a", () => ({ other: "" }))).not.toBe(of("a"));
    const first = of("a");
    for (let name = 0; name < 1000; name++) of(String(name));
    expect(of("a")).not.toBe(first);
  });
});

describe("sets that grow", () => {
  const name = fc.constantFrom("a", "b", "c");
  const set = fc.dictionary(name, fc.constantFrom("1", "2"));

  it("WithAttribute and JoinedSets make what spreading makes, each once, and nothing of what they grow from is changed", () => {
    const joined = new JoinedSets();
    const attributes = { a: new WithAttribute("a"), b: new WithAttribute("b"), c: new WithAttribute("c") };
    fc.assert(
      fc.property(
        set,
        set,
        name,
        fc.option(fc.constantFrom("1", "2", "x"), { nil: undefined }),
        (one, other, key, value) => {
          const before = JSON.stringify([one, other]);
          const grown = attributes[key as "a"].of(one, value);
          expect(grown).toEqual(value === undefined ? one : { ...one, [key]: value });
          expect(attributes[key as "a"].of(one, value)).toBe(grown);
          expect(joined.of(one, other)).toEqual({ ...one, ...other });
          expect(joined.of(one, other)).toBe(joined.of(one, other));
          expect(JSON.stringify([one, other])).toBe(before);
        },
      ),
    );
  });

  it("WithAttribute forgets values that come without end", () => {
    const [sets, from] = [new WithAttribute("name"), {}];
    const first = sets.of(from, "0");
    for (let value = 0; value < 5000; value++) sets.of(from, String(value));
    expect(sets.of(from, "0")).not.toBe(first);
  });
});
