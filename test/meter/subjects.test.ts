// subjects.ts, and books.ts that lets go of what is gone: idle servers stay and say 0, subjects without a source leave.
import { describe, expect, it } from "vitest";
import { Books } from "../../agent/meter/books.ts";
import { isSubjectHere } from "../../agent/meter/subjects.ts";
import type { Dimensions, LedgerSnapshot, ServerInfo } from "../../agent/model.ts";
import { factsOf, intervalOf, moved, SECOND, START, unixNanos } from "./fixtures.ts";

const server = { id: "s" } as ServerInfo;
const facts = {
  servers: new Map([["s", server]]),
  serves: (_: string, model: string) => model === "m",
};

describe("isSubjectHere()", () => {
  it.each<[Dimensions, boolean]>([
    [{}, true],
    [{ "hw.id": "g", "tokenwatt.gpu.state": "stalled" }, true],
    [{ "tokenwatt.server.id": "s" }, true],
    [{ "tokenwatt.server.id": "gone" }, false],
    [{ "tokenwatt.server.id": "s", "gen_ai.request.model": "m" }, true],
    [{ "tokenwatt.server.id": "s", "gen_ai.request.model": "replaced" }, false],
    [{ "gen_ai.request.model": "m" }, true],
    [{ "gen_ai.request.model": "replaced" }, false],
    [{ "tokenwatt.tenant": "t", "gen_ai.request.model": "m" }, false],
    [{ "tokenwatt.gateway.id": "g" }, false],
    [{ "tokenwatt.server.id": "s", "tokenwatt.price.version": "v2" }, true],
    [{ "tokenwatt.server.id": "s", "tokenwatt.price.version": "v1" }, false],
    [{ "tokenwatt.source": "server:s", "tokenwatt.reason": "timeout" }, true],
    [{ "tokenwatt.source": "server:gone", "tokenwatt.reason": "timeout" }, false],
    [{ "tokenwatt.source": "gpu:g" }, true],
  ])("%o: %s", (dimensions, here) => {
    expect(isSubjectHere(dimensions, facts, "v2")).toBe(here);
  });
  it("without a list of models takes a server's only one", () => {
    const sole = { servers: facts.servers, soleModel: () => "m" };
    expect(isSubjectHere({ "tokenwatt.server.id": "s", "gen_ai.request.model": "m" }, sole, undefined)).toBe(
      true,
    );
    expect(isSubjectHere({ "tokenwatt.server.id": "s", "gen_ai.request.model": "n" }, sole, undefined)).toBe(
      false,
    );
  });
});

describe("Books with idle tenants", () => {
  const options = { start: START, unixNanos, idleSeconds: 3600 };
  const used = factsOf({ gateway: true });
  const book = (books: Books, from: number, to: number, tenants: readonly string[] = []): LedgerSnapshot => {
    const increments = tenants.map((tenant) =>
      moved({ server: "g", family: "gateway", tenant, tokens: { output: 10 } }),
    );
    const engine = from === 0 ? [moved({ tokens: { output: 30 } })] : [];
    const seconds = { token_active: to - from };
    books.bookInterval(intervalOf({ from, to, seconds, increments: [...engine, ...increments] }), used);
    const { batch, snapshot } = books.commit(unixNanos(to * SECOND), to * SECOND);
    rows.push(...batch.state);
    return snapshot;
  };
  let rows: { readonly key: string; readonly value: string }[] = [];
  const tenantsOf = ({ points }: LedgerSnapshot): unknown[] => [
    ...new Set(
      points
        .filter(({ ended, metric }) => metric === "tokenwatt.gateway.tokens" && !ended)
        .map(({ dimensions }) => dimensions["tokenwatt.tenant"]),
    ),
  ];
  const engines = ({ points }: LedgerSnapshot): unknown =>
    points.find(({ metric }) => metric === "tokenwatt.tokens")?.value;

  it("ends those that were not used for idleSeconds, and keeps the counters of a server that only rests", () => {
    rows = [];
    const books = new Books(options);
    expect(tenantsOf(book(books, 0, 600, ["a", "b"]))).toEqual(["a", "b"]);
    for (let from = 600; from < 3600; from += 600) book(books, from, from + 600, ["b"]);
    const later = book(books, 3600, 4500, ["b"]);
    expect(tenantsOf(later)).toEqual(["b"]);
    expect(engines(later)).toBe(30n);
  });
  it("goes on counting their rest over a restart", () => {
    rows = [];
    const books = new Books(options);
    book(books, 0, 600, ["a"]);
    book(books, 600, 2700);
    const state = { ...books.ledger.state(), state: rows, rows: [] };
    const next = new Books({ ...options, start: unixNanos(2700 * SECOND) }, state);
    expect(tenantsOf(book(next, 2700, 3000))).toEqual(["a"]);
    book(next, 3000, 4300);
    expect(tenantsOf(book(next, 4300, 4500))).toEqual([]);
  });
});
