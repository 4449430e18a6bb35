import { describe, expect, test } from "vitest";
import type { ProcessFacts, ServerHints } from "../../agent/correlate/placement.ts";
import { Placement } from "../../agent/correlate/placement.ts";
import type { ServerInfo } from "../../agent/model.ts";
import { serverInfo } from "./scene.ts";

function placed(
  servers: readonly ServerInfo[],
  facts: readonly ProcessFacts[],
  pids: readonly number[] = [10],
  hints: Readonly<Record<string, ServerHints>> = {},
) {
  const placement = new Placement();
  placement.setServers(servers, new Map(Object.entries(hints)));
  placement.setFacts(facts);
  return placement.place("GPU-1", undefined, pids).map(({ server, rung }) => [server, rung]);
}

const a = serverInfo("a", { address: "127.0.0.1:8000", port: 8000 });
const b = serverInfo("b", { address: "http://127.0.0.1:8001/metrics", port: 8001 });

describe("Placement, rung by rung", () => {
  test("1: pids of the config, of the server's readings, and their children", () => {
    expect(placed([serverInfo("a", { pids: [10] }), b], [])).toEqual([["a", 1]]);
    expect(placed([a, b], [], [10], { b: { pids: [10] } })).toEqual([["b", 1]]);
    expect(placed([serverInfo("a", { pids: [7] })], [{ pid: 10, parents: [8, 7, 1] }])).toEqual([["a", 1]]);
  });

  test("1: unit and cgroup of the config", () => {
    expect(placed([serverInfo("a", { unit: "a.service" })], [{ pid: 10, unit: "a.service" }])).toEqual([
      ["a", 1],
    ]);
    const inSlice = serverInfo("a", { cgroup: "/llm.slice/" });
    expect(placed([inSlice], [{ pid: 10, cgroup: "/llm.slice/a.scope" }])).toEqual([["a", 1]]);
    expect(placed([inSlice], [{ pid: 10, cgroup: "/llm.slice2/a.scope" }])).toEqual([[undefined, undefined]]);
  });

  test("1: a GPU configured for one server alone gives it the processes nobody else claims", () => {
    const whole = serverInfo("a", { gpus: ["GPU-1"] });
    expect(placed([whole, b], [{ pid: 11, listening: [{ port: 8001 }] }], [10, 11])).toEqual([
      ["a", 1],
      ["b", 3],
    ]);
    expect(placed([whole, serverInfo("c", { gpus: ["GPU-1"] })], [])).toEqual([[undefined, undefined]]);
    expect(placed([serverInfo("a", { gpus: ["GPU-2"] })], [])).toEqual([[undefined, undefined]]);
  });

  test("2: the container, pod or unit of the endpoint", () => {
    expect(placed([a, b], [{ pid: 10, container: "c1" }], [10], { a: { container: "c1" } })).toEqual([
      ["a", 2],
    ]);
    expect(placed([a, b], [{ pid: 10, pod: "p1" }], [10], { b: { pod: "p1" } })).toEqual([["b", 2]]);
    const facts = [
      { pid: 9, unit: "vllm.service", ownedPorts: [8000] },
      { pid: 10, unit: "vllm.service" },
    ];
    expect(placed([a, b], facts)).toEqual([["a", 2]]);
  });

  test("3: not into another pod, nor another container where the same port listens", () => {
    const listening = (inode: string, here = false) => [{ port: 8000, uid: 0, inode, here }];
    const pod = serverInfo("a", {
      address: "10.0.0.1:8000",
      port: 8000,
      pod: { namespace: "n", name: "p", uid: "p1" },
    });
    const stranger = { pid: 10, uid: 0, pod: "p2", listening: listening("7") };
    expect(placed([pod], [stranger])).toEqual([[undefined, undefined]]);
    const published = { pid: 10, uid: 0, container: "c1", listening: listening("7") };
    const other = { pid: 11, uid: 0, container: "c2", listening: listening("8") };
    // One container alone: its port is published. Two: whose is it? A process beside this program decides.
    expect(placed([a], [published])).toEqual([["a", 3]]);
    expect(placed([a], [published, other], [10, 11])).toEqual([
      [undefined, undefined],
      [undefined, undefined],
    ]);
    const beside = { pid: 12, uid: 0, listening: listening("9", true) };
    expect(placed([a], [published, beside], [10, 12])).toEqual([
      [undefined, undefined],
      ["a", 3],
    ]);
  });

  test("2 and 4: a port held in another container says nothing where it is held in several", () => {
    const held = (pid: number, container: string, inode: string) => ({
      pid,
      container,
      ownedPorts: [8000],
      listening: [{ port: 8000, inode }],
    });
    expect(placed([a], [held(10, "c1", "7")])).toEqual([["a", 2]]);
    expect(placed([a], [held(10, "c1", "7"), held(11, "c2", "8")], [10, 11])).toEqual([
      [undefined, undefined],
      [undefined, undefined],
    ]);
  });

  test("3: the port in the process's namespace under its uid", () => {
    expect(placed([a, b], [{ pid: 10, uid: 5, listening: [{ port: 8000, uid: 5 }] }])).toEqual([["a", 3]]);
    expect(placed([a, b], [{ pid: 10, uid: 5, listening: [{ port: 8000, uid: 6 }] }])).toEqual([
      [undefined, undefined],
    ]);
  });

  test("3: --port of the process or of a parent tells servers in one namespace apart", () => {
    const listening = [{ port: 8000 }, { port: 8001 }];
    const facts = [
      { pid: 10, listening, parents: [5] },
      { pid: 5, commandPort: 8001 },
      { pid: 11, listening, commandPort: 8000 },
      { pid: 12, listening },
    ];
    expect(placed([a, b], facts, [10, 11, 12])).toEqual([
      ["b", 3],
      ["a", 3],
      [undefined, undefined],
    ]);
  });

  test("4: an owned socket, and the first rung that answers wins", () => {
    expect(placed([a, b], [{ pid: 10, ownedPorts: [8001] }])).toEqual([["b", 4]]);
    expect(placed([serverInfo("a", { pids: [10] }), b], [{ pid: 10, ownedPorts: [8001] }])).toEqual([
      ["a", 1],
    ]);
  });

  test("never guesses: two answers on the config's rung place nothing, gateways hold no GPU", () => {
    const both = [serverInfo("a", { pids: [10] }), serverInfo("b", { pids: [10] })];
    expect(placed(both, [])).toEqual([[undefined, 1]]);
    expect(placed([serverInfo("a", { pids: [10], family: "gateway" })], [])).toEqual([
      [undefined, undefined],
    ]);
  });

  test("forgets its answers when servers or facts change", () => {
    const placement = new Placement();
    placement.setServers([a], new Map());
    expect(placement.place("GPU-1", undefined, [10])[0]?.server).toBeUndefined();
    placement.setFacts([{ pid: 10, ownedPorts: [8000] }]);
    expect(placement.place("GPU-1", undefined, [10])[0]?.server).toBe("a");
    placement.setServers([b], new Map());
    expect(placement.place("GPU-1", undefined, [10])[0]?.server).toBeUndefined();
  });
});
