// A Debian with systemd as process 1, in namespaces of its own: built once with mmdebstrap, then booted in seconds.
import type { ChildProcess } from "node:child_process";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const project = fileURLToPath(new URL("../../..", import.meta.url));
const root = join(project, "node_modules/.cache/tokenwatt/bookworm");
const UNIT = "etc/systemd/system/tokenwatt.service";

/** Why no machine can be booted here, or undefined when one can. */
export function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return "it needs root for namespaces and mounts";
  for (const tool of ["unshare", "nsenter", ...(existsSync(`${root}.ready`) ? [] : ["mmdebstrap"])]) {
    if (spawnSync(tool, ["--version"]).error !== undefined) return `${tool} is not installed`;
  }
  return undefined;
}

/** The folder of the minimal system, built if it is not there yet. */
export function buildRoot(): string {
  if (!existsSync(`${root}.ready`)) {
    mkdirSync(root, { recursive: true });
    const wanted = "--include=systemd,systemd-sysv,dbus";
    execFileSync("mmdebstrap", ["--variant=minbase", wanted, "bookworm", root], { stdio: "pipe" });
    writeFileSync(`${root}.ready`, "");
  }
  return root;
}

/** Builds the system and installs the unit as README.md in systemd/ says. Takes minutes the first time. */
export function install(files: Readonly<Record<string, string>>): void {
  buildRoot();
  const program = join(root, "usr/bin/tokenwatt");
  const node = "/opt/tokenwatt/node_modules/.bin/node";
  writeFileSync(program, `#!/bin/sh\nexec ${node} /opt/tokenwatt/agent/main.ts "$@"\n`);
  chmodSync(program, 0o755);
  cpSync(join(project, "systemd/tokenwatt.service"), join(root, UNIT));
  cpSync(join(project, "systemd/tokenwatt.sysusers"), join(root, "usr/lib/sysusers.d/tokenwatt.conf"));
  execFileSync("systemd-sysusers", [`--root=${root}`], { stdio: "pipe" });
  for (const folder of [
    "opt/tokenwatt",
    "etc/tokenwatt",
    `${UNIT}.d`,
    "etc/systemd/system/multi-user.target.wants",
  ]) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, name), text);
  writeFileSync(join(root, "etc/machine-id"), "");
  const wants = join(root, "etc/systemd/system/multi-user.target.wants/tokenwatt.service");
  rmSync(wants, { force: true });
  symlinkSync(`/${UNIT}`, wants);
}

/** A booted system. */
export interface Machine {
  /** Runs a command inside; never throws. */
  run(...command: string[]): { readonly status: number | null; readonly output: string };
  /** A property of the service as systemd shows it. */
  show(property: string): string;
  /** Waits until `check` holds; fails after 60 s. */
  until(what: string, check: () => boolean): Promise<void>;
  write(name: string, text: string): void;
  stop(): void;
}

/** Boots the installed system and waits until its init answers. It has a loopback of its own and no other network. */
export function boot(): Promise<Machine> {
  return bootFolder(root, project);
}

/** Boots the system in a folder, with a program's folder at /opt/tokenwatt or without. */
export async function bootFolder(folder: string, ...program: readonly string[]): Promise<Machine> {
  const script = fileURLToPath(new URL("boot.sh", import.meta.url));
  const flags = ["--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net"];
  const child = spawn("unshare", [...flags, script, folder, ...program], { stdio: "ignore" });
  const machine = machineOf(child, folder);
  await machine.until(
    "systemd answers",
    () => machine.run("systemctl", "show", "-p", "Version").status === 0,
  );
  return machine;
}

function machineOf(child: ChildProcess, folder: string): Machine {
  const run: Machine["run"] = (...command) => {
    const init = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim();
    const enter = ["-t", init, "-m", "-u", "-i", "-n", "-p", "-C", "-r"];
    const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    const { status, stdout, stderr } = spawnSync(
      "nsenter",
      [...enter, "env", "-i", "-C", "/", path, ...command],
      {
        encoding: "utf8",
        timeout: 30_000,
      },
    );
    return { status, output: `${stdout}${stderr}` };
  };
  return {
    run,
    show: (property) => run("systemctl", "show", "-p", property, "--value", "tokenwatt").output.trim(),
    until: async (what, check) => {
      for (let tries = 0; tries < 240; tries++) {
        if (check()) return;
        await sleep(250);
      }
      throw new Error(
        `not within 60 s: ${what}\n${run("journalctl", "-u", "tokenwatt", "-n", "20", "--no-pager").output}`,
      );
    },
    write: (name, text) => writeFileSync(join(folder, name), text),
    stop: () => void child.kill("SIGKILL"),
  };
}
