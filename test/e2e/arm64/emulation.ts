// Programs for arm64 on an x64 machine: QEMU's user emulation behind the kernel's binary formats, in namespaces of its own.
import type { SpawnSyncReturns } from "node:child_process";
import { spawnSync } from "node:child_process";
import { mkdtempSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { deployTool } from "../deploy-tools.ts";

const script = fileURLToPath(new URL("emulate.sh", import.meta.url));
const fakeNvmlSource = fileURLToPath(new URL("../../fakes/nvml/fake-nvml.c", import.meta.url));
const NAMESPACES = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"];

/** Why arm64 cannot be emulated here, or undefined when it can. */
export function whyNoEmulation(): string | undefined {
  if (process.arch === "arm64") return "this machine is one: the other tests of the package ran it natively";
  const qemu = deployTool("qemu-aarch64-static");
  if (qemu === undefined) return "qemu-aarch64-static is missing";
  const { status, stderr, error } = emulate({}, "-", "true");
  return status === 0 ? undefined : `the kernel lends no binary format here: ${error ?? stderr.trim()}`;
}

/** Runs a command with exactly this environment; in `root` as its root folder, or in this machine's for "-". */
export function emulate(
  environment: Readonly<Record<string, string>>,
  root: string,
  ...command: readonly string[]
): SpawnSyncReturns<string> {
  const qemu = deployTool("qemu-aarch64-static") ?? "";
  return spawnSync("unshare", [...NAMESPACES, "sh", script, qemu, root, ...command], {
    encoding: "utf8",
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...environment },
    maxBuffer: 1 << 26,
    timeout: 240_000,
  });
}

/** The fake NVML library for arm64, or undefined (said aloud) where the cross compiler is missing. */
export function buildArm64FakeNvml(): string | undefined {
  const path = join(mkdtempSync(join(tmpdir(), "nvml-arm64-")), "libnvidia-ml.so.1");
  const flags = ["-shared", "-fPIC", "-O1", "-o", `${path}.part`, fakeNvmlSource, "-lpthread", "-ldl"];
  if (spawnSync("aarch64-linux-gnu-gcc", flags).status !== 0) {
    console.warn("SKIPPED: the NVML reader on arm64, because aarch64-linux-gnu-gcc is not installed");
    return undefined;
  }
  renameSync(`${path}.part`, path);
  return path;
}
