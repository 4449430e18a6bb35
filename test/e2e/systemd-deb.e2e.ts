// The Debian package on a booted Debian, as its user meets it: installed, started, given GPUs by the conffile, killed by
// the watchdog, upgraded over an edited configuration with its totals going on, removed, purged. Then what can be wrong on
// a host, one after the other: each cause is in the status or the journal, in words. Needs root; no network but loopback.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildFakeNvml } from "../fakes/nvml/build.ts";
import type { Machine } from "./systemd-boot/machine.ts";
import { bootFolder, whyNot } from "./systemd-boot/machine.ts";
import { bareRoot, packVersion } from "./systemd-boot/package.ts";

const library = buildFakeNvml();
const reason =
  whyNot() ?? (library === undefined ? "no C compiler makes the fake driver library" : undefined);
if (reason !== undefined) console.warn(`SKIPPED: the package on a booted system, because ${reason}`);

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-booted-"));
const root = join(folder, "root");
const CONFIG = "etc/tokenwatt/config.yaml";
const NVML = "usr/local/lib/fake/libnvidia-ml.so.1";
const GPUS = `gpu:\n  backend: nvml\n  nvml: {libraryPath: /${NVML}}\nrates: {exportMs: 1000}\n`;
const USER = ["setpriv", "--reuid=tokenwatt", "--regid=tokenwatt", "--clear-groups"];

describe.skipIf(reason !== undefined)("the Debian package on a booted system", () => {
  let machine: Machine;

  beforeAll(async () => {
    bareRoot(root);
    for (const [name, version] of [
      ["first", "1.0.0"],
      ["next", "1.0.1"],
    ] as const) {
      copyFileSync(packVersion(version), join(root, `var/tmp/${name}.deb`));
    }
    mkdirSync(join(root, NVML, ".."), { recursive: true });
    copyFileSync(library as string, join(root, NVML));
    writeFileSync(join(root, `${NVML}.scenario`), "gpus 2\n");
    mkdirSync(join(root, "etc/systemd/system/tokenwatt.service.d"), { recursive: true });
    writeFileSync(
      join(root, "etc/systemd/system/tokenwatt.service.d/test.conf"),
      "[Service]\nWatchdogSec=6s\nRestartSec=1s\n",
    );
    machine = await bootFolder(root);
  }, 600_000);
  afterAll(() => {
    machine?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const sh = (script: string) => machine.run("sh", "-c", `cd / && ${script}`);
  const journal = (...words: string[]): string =>
    machine.run("journalctl", "-u", "tokenwatt", "-o", "cat", "--no-pager", ...words).output;
  const active = (): Promise<void> =>
    machine.until("the unit is active", () => machine.show("ActiveState") === "active");
  /** Seconds of all GPUs in all states, and the instants their series began, as /metrics has them. */
  const metered = (): { seconds: number; created: string } => {
    const ask = `fetch("http://127.0.0.1:9464/metrics", {headers: {accept: "application/openmetrics-text"}})
      .then((answer) => answer.text()).then(console.log)`;
    const page = machine.run("/usr/lib/tokenwatt/bin/node", "-e", ask).output;
    const values = (name: string): string[] =>
      [...page.matchAll(new RegExp(`^tokenwatt_gpu_time_seconds_${name}\\{.*?\\} (\\S+)`, "gm"))].map(
        ([, value]) => value as string,
      );
    return {
      seconds: values("total").reduce((sum, value) => sum + Number(value), 0),
      created: values("created").sort()[0] ?? "",
    };
  };
  const dpkg = (...words: string[]): void => {
    const { output, status } = machine.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", ...words);
    expect([status, output]).toEqual([0, expect.not.stringMatching(/error|warning|does not run/i)]);
  };

  test("dpkg -i starts it, and without a driver the status and the journal say so", async () => {
    dpkg("-i", "/var/tmp/first.deb");
    await active();
    expect(machine.show("UnitFileState")).toBe("enabled");
    expect(machine.show("StatusText")).toBe(
      "no GPU can be read, 0 servers, OTLP to nowhere: see `tokenwatt doctor`",
    );
    expect(journal("-p", "warning")).toContain("/dev/nvidiactl does not exist");
    expect(journal("-p", "warning")).not.toContain('"event":"metering started"');
  });

  test("doctor, as the service's user, looks where the service keeps its state", () => {
    const { output } = machine.run(...USER, "tokenwatt", "doctor", "--only", "state");
    expect(output).toContain("ok    state.writable  /var/lib/tokenwatt can be written");
    expect(machine.run(...USER, "tokenwatt", "verify").status).toBe(0);
  });

  test("an edited conffile is taken over: checked by reload, GPUs by a restart", async () => {
    const before = machine.show("MainPID");
    machine.write(CONFIG, `# Edited by hand.\n${GPUS}`);
    expect(machine.run("systemctl", "reload", "tokenwatt")).toMatchObject({ status: 0 });
    await machine.until("the reload is logged", () => journal().includes("configuration reloaded"));
    expect(journal()).toMatch(/"needRestart":\[.*gpu.*"event":"configuration reloaded"/);
    expect(machine.show("MainPID")).toBe(before);
    expect(machine.run("systemctl", "restart", "tokenwatt").status).toBe(0);
    await active();
    expect(machine.show("StatusText")).toBe("2 GPUs, 0 servers, OTLP to nowhere");
    await machine.until("GPU time is metered", () => metered().seconds > 2);
    // What `ps`, `systemctl status` and the kernel's out-of-memory lines call them.
    const names = sh(
      `cat /sys/fs/cgroup/system.slice/tokenwatt.service/cgroup.procs | while read pid; do cat /proc/$pid/comm; done`,
    );
    expect(names.output.trim().split("\n").sort()).toEqual(["tokenwatt", "tokenwatt-nvml"]);
  });

  test("the watchdog kills a loop that stands still; totals and starts go on", async () => {
    const before = metered();
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "tokenwatt");
    await machine.until("the watchdog restarts it", () => machine.show("NRestarts") === "1");
    await active();
    await machine.until("it meters again", () => metered().seconds > before.seconds);
    expect(metered().created).toBe(before.created);
  });

  test("an upgrade keeps the edited conffile, restarts, and the series go on", async () => {
    const [edited, before, pid] = [
      readFileSync(join(root, CONFIG), "utf8"),
      metered(),
      machine.show("MainPID"),
    ];
    dpkg("-i", "/var/tmp/next.deb");
    await active();
    expect(machine.show("MainPID")).not.toBe(pid);
    expect(machine.run("tokenwatt", "--version").output).toBe("1.0.1\n");
    expect(readFileSync(join(root, CONFIG), "utf8")).toBe(edited);
    expect(existsSync(join(root, `${CONFIG}.dpkg-dist`))).toBe(false);
    await machine.until("it meters again", () => metered().seconds > before.seconds);
    expect(metered().created).toBe(before.created);
    expect(machine.run(...USER, "tokenwatt", "verify")).toMatchObject({ status: 0 });
  });

  /** Starts it with something wrong, and puts it right again afterwards. */
  const broken = async (wrong: string, right: string, see: () => void | Promise<void>): Promise<void> => {
    machine.run("systemctl", "stop", "tokenwatt");
    machine.run("systemctl", "reset-failed", "tokenwatt");
    sh(`journalctl --rotate --vacuum-time=1s >/dev/null 2>&1; ${wrong}`);
    try {
      await see();
    } finally {
      machine.run("systemctl", "stop", "tokenwatt");
      sh(right);
    }
  };
  const start = (): number | null => machine.run("systemctl", "start", "tokenwatt").status;
  const status = (): string => machine.run("systemctl", "status", "--no-pager", "-l", "tokenwatt").output;

  test("an unknown key: failed at once, no loop, the nearest key in `systemctl status`", async () => {
    await broken(`echo 'logLevl: info' >>/${CONFIG}`, `sed -i /logLevl/d /${CONFIG}`, async () => {
      expect(start()).not.toBe(0);
      await machine.until("the journal has it", () => status().includes("logLevl"));
      expect(status()).toContain('did you mean "logLevel"?');
      expect([machine.show("ActiveState"), machine.show("NRestarts")]).toEqual(["failed", "0"]);
    });
  });

  test("a taken port: failed at once, with the port and who to ask in `systemctl status`", async () => {
    const holder = `/usr/lib/tokenwatt/bin/node -e 'require("net").createServer().listen(9464, "127.0.0.1")'`;
    await broken(`systemd-run -q --unit=holder ${holder}; sleep 1`, "systemctl stop holder", async () => {
      expect(start()).not.toBe(0);
      await machine.until("the journal has it", () => status().includes("the port is in use"));
      expect(status()).toContain("Cannot listen on 127.0.0.1:9464: the port is in use");
      expect(machine.run("tokenwatt", "doctor", "--only", "http").output).toMatch(/fail +http\.port/);
    });
  });

  const state = "/var/lib/tokenwatt";
  test.each([
    [
      "a full disk",
      `mount -t tmpfs -o size=64k,mode=0777 tmpfs ${state}; head -c 65536 /dev/zero >${state}/ballast`,
      // From the lock file where it comes to that, else from SQLite.
      /ENOSPC|database or disk is full/,
      "disk is full",
    ],
    [
      "a read-only folder",
      `mount --bind ${state} ${state}; mount -o remount,bind,ro ${state}`,
      /EROFS/,
      "read-only",
    ],
  ])(
    "%s under the state: it meters, and status and journal say what is lost",
    async (_, wrong, code, said) => {
      await broken(wrong, `umount ${state}`, async () => {
        expect(start()).toBe(0);
        expect(machine.show("StatusText")).toContain(
          "2 GPUs, 0 servers, OTLP to nowhere, NOTHING SURVIVES A RESTART",
        );
        await machine.until("the journal has it", () => journal("-p", "err").includes(said));
        expect(journal("-p", "err")).toMatch(code);
        expect(machine.run(...USER, "tokenwatt", "doctor", "--only", "state").output).toContain(said);
      });
    },
  );

  test("a state folder of somebody else is given back by the unit", async () => {
    await broken(`chown -R root:root ${state}`, "true", () => {
      expect(start()).toBe(0);
      expect(sh(`stat -c %U ${state} ${state}/ledger.db`).output).toBe("tokenwatt\ntokenwatt\n");
      expect(machine.show("StatusText")).not.toContain("NOTHING SURVIVES");
    });
  });

  test("device nodes of another group, or that the cgroup denies: journal and doctor say which and why", async () => {
    const nodes = "mknod -m 0600 /dev/nvidiactl c 195 255; mknod -m 0600 /dev/nvidia0 c 195 0";
    await broken(`mv /${CONFIG} /root/kept; ${nodes}`, `rm /dev/nvidia*; mv /root/kept /${CONFIG}`, () => {
      expect(start()).toBe(0);
      expect(machine.show("StatusText")).toContain("no GPU can be read");
      // EACCES by its mode; EPERM where the kernel has systemd's device filter, which is asked first.
      expect(journal("-p", "warning")).toMatch(/\/dev\/nvidiactl may not be opened \(E(ACCES|PERM)\)/);
      const { output } = machine.run(...USER, "tokenwatt", "doctor", "--only", "gpu");
      expect(output).toMatch(/fail +gpu\.devices .*: \/dev\/nvidia\S+: EACCES/);
      expect(output).toContain("add this user to the group");
    });
  });

  test("a driver that comes after the unit: the daemon starts anew, and does not loop", async () => {
    await broken(`mv /${CONFIG} /root/kept`, `rm /dev/nvidiactl; mv /root/kept /${CONFIG}`, async () => {
      expect(start()).toBe(0);
      sh("mknod -m 0666 /dev/nvidiactl c 195 255");
      const closed = "systemd-run --quiet --pipe --wait -p DevicePolicy=closed head -c1 /dev/nvidiactl";
      if (!sh(closed).output.includes("not permitted")) {
        console.warn("SKIPPED: a driver after the unit, because this kernel filters no devices for systemd");
        return;
      }
      // It looks again every 30 s.
      await machine.until("it starts anew", () => machine.show("NRestarts") === "1");
      await active();
      expect(journal()).toContain("the driver came after the agent, which starts again");
      await machine.until("it has looked again", () => journal().includes("restart the unit or the pod"));
      expect([machine.show("ActiveState"), machine.show("NRestarts")]).toEqual(["active", "1"]);
    });
  });

  test("remove stops it and keeps configuration and state; purge leaves nothing", () => {
    expect(start()).toBe(0);
    dpkg("-r", "tokenwatt");
    expect(machine.show("ActiveState")).toBe("inactive");
    expect(sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").output).not.toContain("tokenwatt/app/main.mjs");
    expect([CONFIG, "var/lib/tokenwatt/ledger.db"].map((path) => existsSync(join(root, path)))).toEqual([
      true,
      true,
    ]);
    dpkg("-P", "tokenwatt");
    const left = sh("find /etc /usr /var/lib -name '*tokenwatt*' ! -path '/var/lib/dpkg/*'")
      .output.trim()
      .split("\n");
    // The drop-in is the test's own.
    expect(left.filter((path) => path !== "" && !path.includes("tokenwatt.service.d"))).toEqual([]);
  });
});
