// Who this host is, and what kind of machine through the real systeminformation child.
import { expect, test } from "vitest";
import { hostIdentity, osDescriptionOf, readHostInventory } from "../../agent/host/inventory.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { askModule } from "../../agent/platform/process.ts";

test("hostIdentity() says who this host is", () => {
  const identity = hostIdentity();
  expect(identity.hostName).not.toBe("");
  expect(["amd64", "arm64"]).toContain(identity.hostArch);
});

test("osDescriptionOf() is name and version, whatever the quotes, without the code name", () => {
  const description = (line: string) => osDescriptionOf(`ID=x\n${line}\nNAME="y"\n`);
  expect(description('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"')).toBe("Debian GNU/Linux 12");
  expect(description("PRETTY_NAME='Ubuntu 24.04.1 LTS'")).toBe("Ubuntu 24.04.1 LTS");
  expect(description("PRETTY_NAME=Wolfi")).toBe("Wolfi");
  expect(description('PRETTY_NAME=""')).toBeUndefined();
  expect(osDescriptionOf("NAME=x")).toBeUndefined();
});

test("readHostInventory() says what this machine is", async () => {
  const inventory = await readHostInventory(systemClock());
  expect(inventory.memoryBytes ?? 1).toBeGreaterThan(0);
  expect(inventory.virtual).toBeTypeOf("boolean");
});

test("askModule() gives up on a module that cannot run", async () => {
  expect(await askModule(systemClock(), "/nonexistent/module.ts", 2000)).toBeUndefined();
});
