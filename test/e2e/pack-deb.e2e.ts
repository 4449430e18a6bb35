// The Debian package in a minimal Debian 12 of its own: lintian, installation, an upgrade over an edited configuration,
// removal and purge. Needs root (chroot); the system is the one that the booted unit's tests build with mmdebstrap.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { whyNoPacking } from "../tools/packed.ts";
import { whyNot } from "./systemd-boot/machine.ts";
import { bareRoot, packVersion } from "./systemd-boot/package.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-deb-"));
const root = join(folder, "root");
const missing = (tool: string): boolean => spawnSync(tool, ["--version"]).error !== undefined;
const noPacking = whyNoPacking("deb");
if (noPacking !== undefined) console.warn(`SKIPPED: the Debian package, because ${noPacking}`);
const reason =
  noPacking ??
  whyNot() ??
  (process.arch === "x64" || process.arch === "arm64" ? undefined : "no package for this machine");
if (reason !== undefined) console.warn(`SKIPPED: installing the Debian package, because ${reason}`);
if (missing("lintian")) console.warn("SKIPPED: lintian, because it is not installed");

let first = "";
let next = "";

beforeAll(() => {
  if (noPacking !== undefined) return;
  first = packVersion("1.0.0");
  next = packVersion("1.0.1");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A command inside the system, with /proc and /dev, as its root. */
function inside(command: string): { readonly status: number | null; readonly output: string } {
  const script = `mount -t proc proc '${root}/proc'; mount --rbind /dev '${root}/dev'; exec chroot '${root}' sh -c "$1"`;
  const { status, stdout, stderr } = spawnSync("unshare", ["--mount", "sh", "-c", script, "sh", command], {
    encoding: "utf8",
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", DEBIAN_FRONTEND: "noninteractive" },
  });
  return { status, output: `${stdout}${stderr}` };
}

function dpkg(words: string, deb?: string): void {
  if (deb !== undefined) execFileSync("cp", [deb, join(root, "tmp/package.deb")]);
  const { output, status } = inside(`dpkg ${words}`);
  expect([status, output]).toEqual([0, expect.not.stringMatching(/error|warning/i)]);
}

describe.skipIf(noPacking !== undefined)("the Debian package", () => {
  test("is what dpkg-deb reads: fields, conffiles, owners", () => {
    const show = (...words: string[]): string => execFileSync("dpkg-deb", words, { encoding: "utf8" });
    expect(show("-f", first, "Package", "Version")).toBe("Package: tokenwatt\nVersion: 1.0.0\n");
    expect(show("-I", first, "conffiles")).toBe("/etc/default/tokenwatt\n/etc/tokenwatt/config.yaml\n");
    const list = show("-c", first).trim().split("\n");
    expect(list.filter((line) => !line.includes(" root/root "))).toEqual([]);
    expect(list.filter((line) => /^-..[xs-]..[xs].*/.test(line) && /[xs]/.test(line[3] ?? "")).length).toBe(
      2,
    );
  });

  test.skipIf(missing("lintian"))("has no lintian error or warning", () => {
    const { stdout } = spawnSync("lintian", ["--fail-on", "none", first], { encoding: "utf8" });
    console.log(stdout.trim());
    expect(stdout.split("\n").filter((line) => /^[EW]:/.test(line))).toEqual([]);
  });
});

describe.skipIf(reason !== undefined)("installing it", () => {
  beforeAll(() => {
    bareRoot(root);
  });

  test("makes the user, enables the unit, and the program runs as that user", () => {
    dpkg("-i /tmp/package.deb", first);
    expect(inside("getent passwd tokenwatt").output).toMatch(/^tokenwatt:x:\d+:\d+:.*nologin$/m);
    expect(inside("systemctl is-enabled tokenwatt").output.trim()).toBe("enabled");
    expect(
      inside("setpriv --reuid tokenwatt --regid tokenwatt --clear-groups tokenwatt --version").output,
    ).toBe("1.0.0\n");
    expect(inside("tokenwatt config check").status).toBe(0);
    for (const path of [
      "share/man/man1/tokenwatt.1.gz",
      "share/man/man5/tokenwatt.yaml.5.gz",
      "share/bash-completion/completions/tokenwatt",
      "share/zsh/vendor-completions/_tokenwatt",
      "share/fish/vendor_completions.d/tokenwatt.fish",
    ]) {
      expect([path, existsSync(join(root, "usr", path))]).toEqual([path, true]);
    }
    expect(inside("dpkg --verify tokenwatt").output).toBe("");
  });

  test("an upgrade keeps an edited configuration and an operator's disable", () => {
    const config = join(root, "etc/tokenwatt/config.yaml");
    const edited = `${readFileSync(config, "utf8")}\nlogLevel: debug\n`;
    writeFileSync(config, edited);
    inside("systemctl disable tokenwatt");
    dpkg("-i /tmp/package.deb", next);
    expect(inside("tokenwatt --version").output).toBe("1.0.1\n");
    expect(readFileSync(config, "utf8")).toBe(edited);
    expect(inside("systemctl is-enabled tokenwatt").output.trim()).toBe("disabled");
  });

  test("remove keeps configuration and state, purge leaves nothing", () => {
    inside(
      "install -d -o tokenwatt -g tokenwatt /var/lib/tokenwatt && touch /var/lib/tokenwatt/ledger.sqlite",
    );
    dpkg("-r tokenwatt");
    expect(existsSync(join(root, "usr/lib/tokenwatt"))).toBe(false);
    expect(existsSync(join(root, "etc/tokenwatt/config.yaml"))).toBe(true);
    expect(existsSync(join(root, "var/lib/tokenwatt/ledger.sqlite"))).toBe(true);
    dpkg("-P tokenwatt");
    const left = inside("find / -xdev -path /proc -prune -o -path /tmp -prune -o -name '*tokenwatt*' -print")
      .output.trim()
      .split("\n")
      .filter(Boolean);
    expect(left.filter((path) => !path.startsWith("/opt/tokenwatt"))).toEqual([]);
  });
});
