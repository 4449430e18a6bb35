import { describe, expect, test } from "vitest";
import { candidatePorts, portOf } from "../agent/host-watch.ts";

describe("candidatePorts()", () => {
  test("asks only ports a GPU process or its parents were started with or hold", () => {
    const readings = [
      { pid: 10, parents: [5, 1], commandPort: 8000, ownedPorts: [9001] },
      { pid: 5, parents: [1], commandPort: 8080 },
      { pid: 99, commandPort: 5432, ownedPorts: [5432] },
      { pid: 1, ownedPorts: [22] },
    ];
    expect([...candidatePorts(readings, new Set([10]))].sort()).toEqual([8000, 8080, 9001]);
  });

  test("asks nothing where no process holds a GPU", () => {
    expect(candidatePorts([{ pid: 99, commandPort: 5432 }], new Set()).size).toBe(0);
  });
});

describe("portOf()", () => {
  test.each([
    ["localhost:8000", 8000],
    ["http://127.0.0.1:9464/metrics", 9464],
    ["[::1]:50051", 50051],
    ["unix:/run/engine.sock", undefined],
    ["localhost", undefined],
  ])("%s is %s", (address, port) => {
    expect(portOf(address)).toBe(port);
  });
});
