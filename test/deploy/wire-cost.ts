// What a host's customers cost on the wire: a beat in which every one of them used something, as the encoder makes it.
import { gzipSync } from "node:zlib";
import { createOtlpEncoder } from "../../agent/export/otlp/encoder.ts";
import { Ledger } from "../../agent/meter/ledger/ledger.ts";
import { Meter } from "../../agent/meter/meter.ts";
import { Billing } from "../../agent/meter/money/billing.ts";
import type { Latencies, TokenIncrement } from "../../agent/model.ts";
import { catalogueOf } from "../fakes/catalogue.ts";

const START = 1_700_000_000_000_000_000n;
const MODEL = "meta-llama/Llama-3.1-8B-Instruct";
const BOUNDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/** Points and bytes of one kind of series. */
export interface WireCost {
  readonly points: number;
  readonly bytes: number;
  readonly gzipBytes: number;
}

/** Bytes of a beat of `tenants` customers of two models: tokens and requests, or what is added to them. */
export function wireCost(tenants: number, added: "nothing" | "revenue" | "latencies"): WireCost {
  const priced = catalogueOf({
    ...{ version: "2026-11", currency: "EUR" },
    tokens: ["a", "b"].flatMap((name) =>
      ["input", "output"].map((kind) => ({ model: `${MODEL}-${name}`, kind, pricePerMillionTokens: 2.5 })),
    ),
  });
  const billing = new Billing();
  if (added === "revenue") billing.take(priced, START);
  const ledger = new Ledger(START, {
    ...{ unixNanos: (at: number) => START + BigInt(at), seriesMax: 1_000_000, tenantsMax: 1000 },
  });
  const meter = new Meter(billing);
  const encoder = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" });
  const gate = {
    id: "litellm:4000",
    type: "litellm",
    family: "gateway",
    address: "b",
    pollMs: 1000,
  } as const;
  let bytes: readonly Uint8Array[] = [];
  let points = 0;
  for (let beat = 1; beat <= 3; beat++) {
    const increments = increment(tenants, beat, added === "latencies");
    const server = {
      server: gate.id,
      nanos: { token_active: 0, stalled: 0, parked: 0, unknown: 0 },
      increments,
    };
    const [from, to] = [(beat - 1) * 1e10, beat * 1e10];
    const interval = { from, to, gpus: [], servers: [server], lateSamples: 0, violations: [] };
    const end = START + BigInt(to);
    const facts = { gpus: new Map(), servers: new Map([[gate.id, gate]]) };
    ledger.bookPostings(meter.meterInterval(interval as never, facts, end), to);
    const snapshot = ledger.commit(end, to);
    points = snapshot.points.length;
    bytes = [...encoder.encode(snapshot)].map((one) => one.bytes);
  }
  const sum = (of: (one: Uint8Array) => number): number => bytes.reduce((all, one) => all + of(one), 0);
  return { points, bytes: sum((one) => one.length), gzipBytes: sum((one) => gzipSync(one).length) };
}

function increment(tenants: number, beat: number, timed: boolean): TokenIncrement[] {
  return Array.from({ length: tenants }, (_, tenant) => tenant).flatMap((tenant) =>
    ["a", "b"].map((name, at): TokenIncrement => {
      const amount = 1000 + ((tenant * 7919 + beat * 104_729 + at) % 50_000);
      const latencies: Latencies = timed
        ? {
            "request_duration ok": {
              bounds: BOUNDS,
              counts: BOUNDS.map((_, i) => (tenant + i) % 3).concat(0),
              sum: amount / 997,
              count: 14,
            },
          }
        : {};
      return {
        ...{
          server: "litellm:4000",
          family: "gateway",
          role: "combined",
          tenant: `customer-${tenant}`,
          model: `${MODEL}-${name}`,
        },
        ...{
          endpoint: `chat-${tenant % 2}`,
          latencies,
          reasoningTokens: 0,
          resets: 0,
          late: false,
          at: beat * 1e10,
        },
        tokens: { input_uncached: amount, input_cached: amount >> 1, output: amount >> 2 },
        requests: { ok: 1 + (amount % 5) },
      };
    }),
  );
}
