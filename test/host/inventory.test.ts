// Host facts through the real systeminformation child.
import { expect, test } from "vitest";
import { systemClock } from "../../agent/clock.ts";
import { readHostFacts } from "../../agent/host/inventory.ts";
import { askModule } from "../../agent/process.ts";

test("readHostFacts() says what this machine is", async () => {
  const facts = await readHostFacts(systemClock());
  expect(facts.hostName).not.toBe("");
  expect(["amd64", "arm64"]).toContain(facts.hostArch);
  expect(facts.memoryBytes ?? 1).toBeGreaterThan(0);
});

test("askModule() gives up on a module that cannot run", async () => {
  expect(await askModule(systemClock(), "/nonexistent/module.ts", 2000)).toBeUndefined();
});
