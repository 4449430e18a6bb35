// The shipped unit under a real systemd as process 1: start, rights, reload, watchdog, misconfiguration, stop.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Machine } from "./systemd-boot/machine.ts";
import { boot, install, whyNot } from "./systemd-boot/machine.ts";

const reason = whyNot();
if (reason !== undefined) console.warn(`SKIPPED: the unit under a booted systemd, because ${reason}`);

const CONFIG = "etc/tokenwatt/config.yaml";
const FINE = "export:\n  prometheus:\n    listen: 127.0.0.1:19470\n";
const TEST_DROP_IN = "[Service]\nWatchdogSec=6s\nRestartSec=1s\n";

describe.skipIf(reason !== undefined)("tokenwatt.service on a booted system", () => {
  let machine: Machine;

  beforeAll(async () => {
    install({ [CONFIG]: FINE, "etc/systemd/system/tokenwatt.service.d/test.conf": TEST_DROP_IN });
    machine = await boot();
    await machine.until("the unit is active", () => machine.show("ActiveState") === "active");
  }, 600_000);
  afterAll(() => machine?.stop());

  const journal = (): string =>
    machine.run("journalctl", "-u", "tokenwatt", "-o", "cat", "--no-pager").output;
  const status = (): string => machine.run("cat", `/proc/${machine.show("MainPID")}/status`).output;

  test("starts with notify and says what it meters", () => {
    expect(machine.show("StatusText")).toBe(
      "no GPU can be read, 0 servers, OTLP to nowhere: see `tokenwatt doctor`",
    );
    expect(machine.show("NRestarts")).toBe("0");
  });

  test("runs without a capability, behind seccomp, as its own user, with a read-only system", () => {
    expect(status()).toMatch(/CapEff:\s0+\n/);
    expect(status()).toMatch(/NoNewPrivs:\s1\n/);
    expect(status()).toMatch(/Seccomp:\s2\n/);
    expect(status()).not.toMatch(/Uid:\s0\b/);
    const mounts = machine.run("cat", `/proc/${machine.show("MainPID")}/mounts`).output;
    expect(mounts).toMatch(/ \/ \S+ ro[, ]/);
    expect(
      machine.run("stat", "-c", "%a %U", "/var/lib/private/tokenwatt", "/var/lib/tokenwatt").output,
    ).toContain("700 tokenwatt");
  });

  test("reloads a good configuration and refuses a bad one, going on in the old", () => {
    const before = machine.show("MainPID");
    expect(machine.run("systemctl", "reload", "tokenwatt").status).toBe(0);
    expect(journal()).toContain('"event":"configuration reloaded"');
    machine.write(CONFIG, `${FINE}logLevel: loud\n`);
    expect(machine.run("systemctl", "reload", "tokenwatt").status).not.toBe(0);
    expect(journal()).toContain('Cannot read logLevel as one of debug, info, warn, error: got "loud"');
    machine.write(CONFIG, FINE);
    expect(machine.show("ActiveState")).toBe("active");
    expect(machine.show("MainPID")).toBe(before);
  });

  test("is killed by the watchdog when its loop stands still, and comes back", async () => {
    const stuck = machine.show("MainPID");
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "tokenwatt");
    await machine.until("the watchdog restarts it", () => machine.show("NRestarts") === "1");
    await machine.until("it is active again", () => machine.show("ActiveState") === "active");
    expect(machine.show("MainPID")).not.toBe(stuck);
  });

  test("stops within its time and leaves no process", async () => {
    expect(machine.run("systemctl", "stop", "tokenwatt").status).toBe(0);
    expect(machine.show("Result")).toBe("success");
    expect(journal()).toContain('"event":"stopped"');
    expect(machine.show("TasksCurrent")).toMatch(/^(0|\[not set\])$/);
  });

  test("does not start with a bad configuration, and the journal says why", () => {
    machine.write(CONFIG, `${FINE}logLevl: info\n`);
    expect(machine.run("systemctl", "start", "tokenwatt").status).not.toBe(0);
    expect(journal()).toContain('did you mean "logLevel"?');
    machine.run("systemctl", "stop", "tokenwatt");
  });
});
