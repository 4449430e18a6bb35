// The rpm: the same files as the Debian package for both architectures, what its programs are linked against, and its scripts
// by installation, upgrade over an edited configuration and removal with `rpm --root`, in a minimal Debian (there is no
// minimal Fedora to be had here: its dependencies are compared with the binaries, not resolved).
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Kind } from "../../deploy/pack/options.ts";
import { pack, whyNoPacking } from "../tools/packed.ts";
import { whyNot } from "./systemd-boot/machine.ts";
import { bareRoot } from "./systemd-boot/package.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "tokenwatt-rpm-"));
const noTool = ["rpm", "rpm2cpio", "cpio", "llvm-readelf"].find(
  (tool) => spawnSync(tool, ["--version"]).error !== undefined,
);
const reason =
  whyNoPacking("deb", "rpm") ?? (noTool === undefined ? undefined : `${noTool} is not installed`);
if (reason !== undefined) console.warn(`SKIPPED: the rpm, because ${reason}`);
const noInstall = reason ?? whyNot();
if (reason === undefined && noInstall !== undefined)
  console.warn(`SKIPPED: installing the rpm, because ${noInstall}`);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Packs a copy of what is committed, with another version, and returns the folder of artefacts. */
function packVersion(version: string, kinds: readonly Kind[], architectures: string): string {
  const copy = join(folder, version);
  mkdirSync(copy);
  execFileSync("sh", ["-c", `git archive HEAD | tar -x -C '${copy}'`], { cwd: project });
  symlinkSync(join(project, "node_modules"), join(copy, "node_modules"));
  const manifest = join(copy, "package.json");
  writeFileSync(manifest, JSON.stringify({ ...JSON.parse(readFileSync(manifest, "utf8")), version }));
  const out = join(copy, "dist");
  const environment = { SOURCE_DATE_EPOCH: "1790000000" };
  pack(out, { kinds, architectures, preset: 0, root: copy, environment });
  return out;
}

const MACHINES = [
  ["x86_64", "amd64"],
  ["aarch64", "arm64"],
] as const;
const [own] = process.arch === "arm64" ? MACHINES[1] : MACHINES[0];
let artefacts = "";
const rpmOf = (machine: string): string => join(artefacts, `tokenwatt-1.0.0-1.${machine}.rpm`);
const query = (machine: string, ...words: string[]): string[] =>
  execFileSync("rpm", ["-qp", ...words, rpmOf(machine)], { encoding: "utf8" })
    .trim()
    .split("\n");

describe.skipIf(reason !== undefined)("the rpm", () => {
  beforeAll(() => {
    artefacts = packVersion("1.0.0", ["deb", "rpm"], "x64,arm64");
    for (const [machine, debian] of MACHINES) {
      for (const kind of ["rpm", "deb"]) mkdirSync(join(folder, machine, kind), { recursive: true });
      // Names in it are absolute.
      const unpack = `rpm2cpio '${rpmOf(machine)}' | cpio --quiet --no-absolute-filenames -id 2>&1`;
      execFileSync("sh", ["-c", unpack], { cwd: join(folder, machine, "rpm") });
      const deb = join(artefacts, `tokenwatt_1.0.0_${debian}.deb`);
      execFileSync("dpkg-deb", ["--extract", deb, join(folder, machine, "deb")]);
    }
  });

  test.each(MACHINES)("for %s holds the files of the Debian package, byte for byte", (machine) => {
    const inDeb = filesIn(join(folder, machine, "deb"));
    const inRpm = filesIn(join(folder, machine, "rpm"));
    expect(inRpm.size).toBeGreaterThan(100);
    // Each has its own place for completions of zsh, and only Debian has lintian.
    const zsh = inDeb.get("usr/share/zsh/vendor-completions/_tokenwatt");
    expect(inDeb.delete("usr/share/zsh/vendor-completions/_tokenwatt")).toBe(true);
    expect(inDeb.delete("usr/share/lintian/overrides/tokenwatt")).toBe(true);
    inDeb.set("usr/share/zsh/site-functions/_tokenwatt", zsh as string);
    expect(Object.fromEntries(inRpm)).toEqual(Object.fromEntries(inDeb));
  });

  test.each(MACHINES)(
    "for %s says what it is, owns its folders and keeps edited configuration",
    (machine) => {
      expect(
        query(machine, "--qf", "%{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{LICENSE} %{BUILDHOST}\n"),
      ).toEqual([`tokenwatt 1.0.0-1 ${machine} Apache-2.0 localhost`]);
      const list = query(
        machine,
        "--qf",
        "[%{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags} %{FILENAMES}\n]",
      );
      expect(list.filter((line) => !line.startsWith("root:root "))).toEqual([]);
      expect(list.filter((line) => line.includes(" cn "))).toEqual([
        "root:root cn /etc/default/tokenwatt",
        "root:root cn /etc/tokenwatt/config.yaml",
      ]);
      const named = new Set(query(machine, "-l"));
      for (const path of [
        "/etc/tokenwatt",
        "/usr/lib/tokenwatt",
        "/usr/lib/tokenwatt/app",
        "/usr/share/tokenwatt",
      ]) {
        expect([path, named.has(path)]).toEqual([path, true]);
      }
      for (const path of ["/usr", "/etc", "/usr/bin", "/usr/lib/systemd/system", "/etc/default"]) {
        expect([path, named.has(path)]).toEqual([path, false]);
      }
    },
  );

  test("requires what node and koffi of either architecture are linked against, and no more", () => {
    const versions = MACHINES.flatMap(([machine]) => {
      const tree = join(folder, machine, "rpm/usr/lib/tokenwatt");
      const [addon = ""] = readdirSync(join(tree, "node_modules/@koromix"));
      return ["bin/node", `node_modules/@koromix/${addon}/koffi.node`].flatMap((name) => {
        const words = ["--version-info", join(tree, name)];
        const text = execFileSync("llvm-readelf", words, { encoding: "utf8" });
        return text.match(/\b(GLIBC|GLIBCXX|CXXABI)_[0-9.]+/g) ?? [];
      });
    });
    const newest = (family: string): string | undefined =>
      versions
        .filter((name) => name.startsWith(`${family}_`))
        .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
        .at(-1);
    for (const [machine] of MACHINES) {
      expect(query(machine, "--requires").filter((name) => !name.startsWith("rpmlib("))).toEqual([
        "/bin/sh",
        `libc.so.6(${newest("GLIBC")})(64bit)`,
        "libgcc_s.so.1()(64bit)",
        `libstdc++.so.6(${newest("CXXABI")})(64bit)`,
        `libstdc++.so.6(${newest("GLIBCXX")})(64bit)`,
      ]);
    }
  });

  test("is whole, and rpm knows its payload", () => {
    for (const [machine] of MACHINES) {
      expect(execFileSync("rpm", ["-K", rpmOf(machine)], { encoding: "utf8" })).toMatch(/: digests OK$/m);
      expect(query(machine, "--qf", "%{PAYLOADCOMPRESSOR}")).toEqual(["zstd"]);
    }
  });
});

describe.skipIf(noInstall !== undefined)("installing the rpm", () => {
  const root = join(folder, "root");
  beforeAll(() => {
    bareRoot(root);
    // Fedora's preset is "disable *"; a host that wants the unit says so.
    mkdirSync(join(root, "etc/systemd/system-preset"), { recursive: true });
    writeFileSync(join(root, "etc/systemd/system-preset/10-tokenwatt.preset"), "enable tokenwatt.service\n");
  });

  /** A command inside the system, as its root. */
  const inside = (command: string): { readonly status: number | null; readonly output: string } => {
    const script = `mount -t proc proc '${root}/proc'; mount --rbind /dev '${root}/dev'; exec chroot '${root}' sh -c "$1"`;
    const { status, stdout, stderr } = spawnSync("unshare", ["--mount", "sh", "-c", script, "sh", command], {
      encoding: "utf8",
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    return { status, output: `${stdout}${stderr}` };
  };
  /** The rpm of this machine inside the system's root; dpkg's libraries are unknown to it. */
  const rpm = (...words: string[]): void => {
    const flags = ["--root", root, "--dbpath", "/var/lib/rpm", "--nodeps"];
    const { status, stderr } = spawnSync("rpm", [...flags, ...words], {
      encoding: "utf8",
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    expect([status, stderr]).toEqual([0, expect.not.stringMatching(/error|fail/i)]);
  };

  test("makes the user, follows the host's preset, and the program runs as that user", () => {
    rpm("-i", rpmOf(own));
    expect(inside("getent passwd tokenwatt").output).toMatch(/^tokenwatt:x:\d+:\d+:.*nologin$/m);
    expect(inside("systemctl is-enabled tokenwatt").output.trim()).toBe("enabled");
    const asUser = "setpriv --reuid tokenwatt --regid tokenwatt --clear-groups";
    expect(inside(`${asUser} tokenwatt --version`).output).toBe("1.0.0\n");
    expect(inside("tokenwatt config check").status).toBe(0);
    rpm("--verify", "tokenwatt");
  });

  test("an upgrade keeps an edited configuration and an operator's disable", () => {
    const config = join(root, "etc/tokenwatt/config.yaml");
    const edited = `${readFileSync(config, "utf8")}\nlogLevel: debug\n`;
    writeFileSync(config, edited);
    inside("systemctl disable tokenwatt");
    const next = packVersion("1.0.1", ["rpm"], process.arch);
    rpm("-U", join(next, `tokenwatt-1.0.1-1.${own}.rpm`));
    expect(inside("tokenwatt --version").output).toBe("1.0.1\n");
    expect(readFileSync(config, "utf8")).toBe(edited);
    expect(inside("systemctl is-enabled tokenwatt").output.trim()).toBe("disabled");
  });

  test("removal keeps the edited configuration and the state, and nothing else", () => {
    const state = "/var/lib/tokenwatt";
    inside(`systemctl enable tokenwatt; install -d ${state} && touch ${state}/ledger.sqlite`);
    rpm("-e", "tokenwatt");
    const left = inside(
      "find / -xdev -path /proc -prune -o -path /dev -prune -o -name '*tokenwatt*' -print",
    ).output;
    expect(left.trim().split("\n").sort()).toEqual([
      "/etc/systemd/system-preset/10-tokenwatt.preset",
      "/etc/tokenwatt",
      state,
    ]);
    expect(existsSync(join(root, "etc/tokenwatt/config.yaml.rpmsave"))).toBe(true);
    expect(existsSync(join(root, `${state}/ledger.sqlite`))).toBe(true);
  });
});

/** The files and links below a folder: mode and digest, or where it points, by path. */
function filesIn(top: string): Map<string, string> {
  const entries = readdirSync(top, { recursive: true, withFileTypes: true });
  return new Map(
    entries.flatMap((entry): [string, string][] => {
      const full = join(entry.parentPath, entry.name);
      const path = relative(top, full);
      if (entry.isSymbolicLink()) return [[path, `-> ${readlinkSync(full)}`]];
      if (!entry.isFile()) return [];
      const digest = createHash("sha256").update(readFileSync(full)).digest("hex");
      return [[path, `${(statSync(full).mode & 0o7777).toString(8)} ${digest}`]];
    }),
  );
}
