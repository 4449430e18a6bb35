import { describe, expect, test } from "vitest";
import { PeerRates, peerOf } from "../../../agent/servers/receive/peer-rates.ts";

describe("peerOf()", () => {
  test.each([
    ["10.1.2.3:41000", "10.1.2.3"],
    ["::ffff:10.1.2.3:41000", "10.1.2.3"],
    ["2001:db8:1:2:3:4:5:6:41000", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::9:41000", "2001:db8:1:2::/64"],
    ["2001:db8::1:41000", "2001:db8:0:0::/64"],
    ["fe80::1%eth0:41000", "fe80:0:0:0::/64"],
    ["127.0.0.1:41000", "127.0.0.1:41000"],
    ["::1:41000", "::1:41000"],
    ["::ffff:127.0.0.1:41000", "::ffff:127.0.0.1:41000"],
    ["unix/7", "unix/7"],
    ["unknown", "unknown"],
  ])("takes %s for %s", (peer, caller) => expect(peerOf(peer)).toBe(caller));
});

describe("PeerRates", () => {
  const rates = (perSecond: number) => {
    let now = 0;
    const all = new PeerRates(perSecond, { now: () => now });
    return { take: (peer: string) => all.take(peer), pass: (seconds: number) => (now += seconds * 1e9), all };
  };

  test("allows each caller a second's worth at once, then its rate, whatever the others do", () => {
    const { take, pass } = rates(10);
    for (let sent = 0; sent < 10; sent++) expect(take("a")).toBe(0);
    expect(take("a")).toBe(100_000_000);
    expect(take("b")).toBe(0);
    pass(0.25);
    expect([take("a"), take("a")]).toEqual([0, 0]);
    expect(take("a")).toBe(50_000_000);
  });

  test("bounds all callers together, however many there are", () => {
    const { take, pass, all } = rates(10);
    let taken = 0;
    for (let peer = 0; peer < 20_000; peer++) if (take(`p${peer}`) === 0) taken++;
    expect(taken).toBe(80);
    expect(all.size).toBeLessThanOrEqual(10_000);
    pass(1);
    for (let peer = 0; peer < 1000; peer++) if (take(`q${peer}`) === 0) taken++;
    expect(taken).toBe(160);
  });
});
