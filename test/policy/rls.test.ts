// Rate-limit calls: what is over and what is not, what a call charges and what it never does, and the listener over real
// sockets. That Envoy understands it is judged in test/e2e/policy.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { openChannel } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { PolicyBook } from "../../agent/policy/book.ts";
import type { RlsConfig } from "../../agent/policy/config.ts";
import type { PolicyListener } from "../../agent/policy/rls.ts";
import { serveRateLimits } from "../../agent/policy/rls.ts";
import { answerCall } from "../../agent/policy/rls-answer.ts";
import { decodeRequest, encodeResponse } from "../../agent/policy/rls-wire.ts";
import { fed, gatewaySeries, policyWith, unfed } from "./fixtures.ts";
import type { Answered, Call } from "./rls-calls.ts";
import { decodeAnswer, encodeCall, shouldRateLimit } from "./rls-calls.ts";

const NOON = Date.parse("2026-12-01T12:00:00Z");
const [OK, OVER] = [1, 2];
const rls = { listen: "127.0.0.1:0" };

/** A policy that answers calls, and how they were decided. */
class Service {
  readonly book: PolicyBook;
  readonly decisions: string[] = [];
  now = NOON;

  constructor(quotas: Parameters<typeof policyWith>[0], more: object = {}) {
    this.book = new PolicyBook(
      policyWith(
        quotas.map((one) => ({ mode: "local", ...one })),
        { rls, ...more },
      ),
      NOON,
    );
  }

  call(call: Call): Answered {
    const parts = {
      book: this.book,
      config: this.book.policy.rls as RlsConfig,
      aliases: { asked: "m" },
      count: (decision: string) => this.decisions.push(decision),
    };
    return decodeAnswer(encodeResponse(answerCall(decodeRequest(encodeCall(call)), this.now, parts)));
  }

  /** As Envoy asks before the request, and charges once the stream is over. */
  check(tenant: string): number {
    return this.call({ descriptors: [{ entries: { tenant }, hits: 0 }] }).code;
  }

  charge(tenant: string, hits: number): Answered {
    return this.call({ descriptors: [{ entries: { tenant }, hits }] });
  }

  used(): readonly (bigint | undefined)[] {
    return this.book.commit(this.now, () => unfed).readings.map(({ used }) => used);
  }
}

describe("a rate-limit call", () => {
  test("is over once what was charged is above the limit, and says when that ends", () => {
    const service = new Service([{ match: { tenant: "*" }, limit: 100, per: "minute" }]);
    service.now = NOON + 14_500;
    const codes = [0, 1, 2, 3].map(() => {
      const code = service.check("acme");
      if (code === OK) service.charge("acme", 40);
      return code;
    });
    expect(codes).toEqual([OK, OK, OK, OVER]);
    const answer = service.call({ descriptors: [{ entries: { tenant: "acme" }, hits: 0 }] });
    expect(answer).toEqual({
      code: OVER,
      statuses: [{ code: OVER, name: "q0", limit: 100, unit: 2, remaining: 0, resetSeconds: 45.5 }],
      headers: { "retry-after": "46" },
    });
    expect(service.check("blue")).toBe(OK);
    service.now = NOON + 60_000;
    expect(service.check("acme")).toBe(OK);
  });

  test("never limits a shadow or a mirror, and counts what it would have done", () => {
    const service = new Service([
      { limit: 10, mode: "shadow" },
      { limit: 10, mode: "mirror" },
    ]);
    service.charge("a", 50);
    expect(service.check("a")).toBe(OK);
    expect(service.decisions).toEqual(["would_limit", "would_limit"]);
  });

  test("charges 0 where Envoy sends an empty message, and nothing but requests where it sends no hits", () => {
    const service = new Service([{ limit: 3 }, { limit: 3, count: "requests" }]);
    service.check("a");
    expect(service.used()).toEqual([undefined, undefined]);
    const plain = (): number => service.call({ descriptors: [{ entries: { tenant: "a" } }] }).code;
    expect([plain(), plain(), plain(), plain()]).toEqual([OK, OK, OK, OVER]);
    expect(service.used()).toEqual([undefined, 4n]);
    service.call({ hits: 2, descriptors: [{ entries: { tenant: "a" } }] });
    expect(service.used()).toEqual([2n, 4n]);
  });

  test("meets every quota whose keys it carries, by the first key that is there, under the name a model is served by", () => {
    const service = new Service([
      { match: { tenant: "a", model: "m" }, limit: 5 },
      { match: { tenant: "a", endpoint: "chat" }, limit: 1 },
      { match: { tenant: "b" }, limit: 1 },
    ]);
    service.call({
      descriptors: [{ entries: { "x-tenant-id": "b", tenant: "a", model_name_override: "asked" }, hits: 5 }],
    });
    expect(service.used()).toEqual([5n, undefined, undefined]);
    service.call({ descriptors: [{ entries: { model: "m" }, hits: 5 }] });
    expect(service.used()).toEqual([5n, undefined, undefined]);
    expect(service.decisions).toEqual(["unmatched"]);
  });

  test("passes an unknown domain and takes no limit from its caller: both are counted", () => {
    const service = new Service([{ limit: 1 }]);
    service.charge("a", 5);
    const answer = service.call({ domain: "other", descriptors: [{ entries: { tenant: "a" }, hits: 0 }] });
    expect(answer).toEqual({ code: OK, statuses: [{ code: OK }], headers: {} });
    const own = { descriptors: [{ entries: { tenant: "a" }, hits: 0, limit: 1_000_000 }] };
    expect(service.call(own).code).toBe(OVER);
    expect(service.decisions).toEqual(["unmatched", "error", "limit"]);
  });

  test("answers every descriptor in order, and saturates what 32 bits cannot hold", () => {
    const service = new Service([
      { match: { tenant: "big" }, limit: 2 ** 40, per: "month" },
      { match: { tenant: "small" }, limit: 7, per: "week" },
    ]);
    const { statuses } = service.call({
      descriptors: ["small", "none", "big"].map((tenant) => ({ entries: { tenant }, hits: 0 })),
    });
    expect(statuses.map(({ limit, name, unit }) => [name, limit, unit])).toEqual([
      ["q1", 7, 7],
      [undefined, undefined, undefined],
      ["q0", 4_294_967_295, 5],
    ]);
  });

  test("holds what requests in flight may use, half of the limit at most, until a charge or the time is over", () => {
    const service = new Service([{ limit: 100, per: "hour", reserve: { tokens: 20, seconds: 60 } }]);
    service.charge("a", 60);
    expect([service.check("a"), service.check("a"), service.check("a")]).toEqual([OK, OK, OVER]);
    service.charge("a", 5);
    expect(service.check("a")).toBe(OK);
    service.now += 60_000;
    const many = new Service([{ limit: 100, per: "hour", reserve: { tokens: 20, seconds: 60 } }]);
    // No more than half of the limit is ever held: requests that never end cannot lock everyone out.
    for (let calls = 0; calls < 50; calls++) expect(many.check("a")).toBe(OK);
    expect(service.check("a")).toBe(OK);
  });

  test("is answered by the larger of ledger and charges, and by the window of now before the ledger reaches it", () => {
    const service = new Service([{ match: { tenant: "a" }, limit: 100, per: "minute" }]);
    const metric = "tokenwatt.gateway.tokens";
    service.book.book({ metric, dimensions: gatewaySeries("a"), amount: 101, atMillis: NOON, own: false });
    expect(service.check("a")).toBe(OVER);
    service.now = NOON + 60_001;
    expect(service.check("a")).toBe(OK);
    service.charge("a", 101);
    expect(service.check("a")).toBe(OVER);
    // The ledger still books the minute before: neither window loses what it had.
    const before = service.book.commit(NOON + 59_000, () => fed).readings[0];
    expect([before?.used, before?.window.from]).toEqual([101n, NOON]);
    const after = service.book.commit(NOON + 61_000, () => fed).readings[0];
    expect([after?.used, after?.method]).toEqual([101n, "rls"]);
  });

  test("never limits keys that found no room", () => {
    const service = new Service([{ match: { tenant: "*" }, limit: 1 }], { keysMax: 1 });
    service.charge("a", 5);
    service.charge("b", 5);
    expect([service.check("a"), service.check("b"), service.check("c")]).toEqual([OVER, OK, OK]);
  });

  test("admits at most limit + c x m with c in flight, whatever their order", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 50 })), { minLength: 1, maxLength: 200 }),
        (most, steps) => {
          const service = new Service([{ limit: 200, per: "day" }]);
          const inFlight: number[] = [];
          let admitted = 0;
          for (const [begins, tokens] of steps) {
            if (begins && inFlight.length < most) {
              if (service.check("a") === OK) inFlight.push(tokens);
            } else {
              const done = inFlight.shift();
              if (done === undefined) continue;
              admitted += done;
              service.charge("a", done);
            }
          }
          expect(admitted).toBeLessThanOrEqual(200 + most * 50);
        },
      ),
    );
  });

  test("is answered as envoyproxy/ratelimit does: over where used with its own hits is above the limit", () => {
    const hits = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 60 }));
    const calls = fc.array(fc.tuple(hits, fc.integer({ min: 0, max: 40 })), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 120 }), calls, (limit, steps) => {
        const service = new Service([{ limit, per: "minute" }]);
        let [used, window] = [0, NOON];
        for (const [own, seconds] of steps) {
          service.now += seconds * 1000;
          if (service.now >= window + 60_000) {
            used = 0;
            window = Math.floor(service.now / 60_000) * 60_000;
          }
          used += own;
          const [status] = service.charge("a", own).statuses;
          const wanted = [used > limit ? OVER : OK, Math.max(0, limit - used)];
          expect([status?.code, status?.remaining ?? 0]).toEqual(wanted);
        }
      }),
    );
  });

  test("that is no message is refused, and nothing of it charged", () => {
    const service = new Service([{ limit: 10 }]);
    const call = encodeCall({ descriptors: [{ entries: { tenant: "a" }, hits: 5 }] });
    for (let length = 1; length < call.length; length++) {
      const parts = {
        book: service.book,
        config: service.book.policy.rls as RlsConfig,
        aliases: {},
        count: () => {},
      };
      try {
        answerCall(decodeRequest(call.subarray(0, length)), NOON, parts);
      } catch (error) {
        expect((error as Error).name).toBe("WireError");
      }
    }
    expect(Number(service.used()[0] ?? 0n)).toBeLessThanOrEqual(call.length);
  });
});

describe("serveRateLimits()", () => {
  test("rejects where the folder of its socket goes away as it opens: nothing ends for it", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-rls-"));
    const opening = serveRateLimits({ listen: `unix:${folder}/rls.sock` }, (bytes) => bytes, silentLog);
    rmSync(folder, { recursive: true });
    await expect(opening).rejects.toThrow(/ENOENT.*rls.sock/);
  });

  const open: { close(): void }[] = [];
  afterEach(() => {
    for (const one of open.splice(0).reverse()) one.close();
  });

  async function serve(listen: string): Promise<{ service: Service; listener: PolicyListener }> {
    const service = new Service([{ limit: 10 }]);
    const answer = (bytes: Buffer): Buffer => {
      const parts = {
        book: service.book,
        config: service.book.policy.rls as RlsConfig,
        aliases: {},
        count: () => {},
      };
      return encodeResponse(answerCall(decodeRequest(bytes), NOON, parts));
    };
    const listener = await serveRateLimits({ listen }, answer, silentLog);
    open.push(listener);
    return { service, listener };
  }

  test("answers over loopback and over a unix socket, also one that a killed agent left", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tokenwatt-rls-"));
    open.push({ close: () => rmSync(folder, { recursive: true }) });
    const socket = join(folder, "rls.sock");
    (await serve(`unix:${socket}`)).listener.close();
    await serve(`unix:${socket}`);
    const { listener } = await serve("127.0.0.1:0");
    for (const target of [`unix:${socket}`, `127.0.0.1:${listener.port}`]) {
      const client = openChannel({ target });
      open.push(client);
      const check = { descriptors: [{ entries: { tenant: "a" }, hits: 0 }] };
      expect((await shouldRateLimit(client, check)).code).toBe(OK);
      await shouldRateLimit(client, { descriptors: [{ entries: { tenant: "a" }, hits: 11 }] });
      expect((await shouldRateLimit(client, check)).code).toBe(OVER);
    }
  });

  test("rejects an address that is taken", async () => {
    const { listener } = await serve("127.0.0.1:0");
    await expect(serve(`127.0.0.1:${listener.port}`)).rejects.toThrow("EADDRINUSE");
  });
});
