// tar and ar: what is written can be read, by us and by the system's tools, and depends on nothing but the content.
import { spawnSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ar, unar } from "../../deploy/pack/ar.ts";
import type { File } from "../../deploy/pack/files.ts";
import { file, foldersOf } from "../../deploy/pack/files.ts";
import { tar, untar } from "../../deploy/pack/tar.ts";

const name = fc.stringMatching(/^[a-z0-9_.@+-]{1,40}$/).filter((text) => !/^\.{1,2}$/.test(text));
const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"));
const files = fc
  .uniqueArray(fc.tuple(path, fc.uint8Array({ maxLength: 1200 }), fc.constantFrom(0o644, 0o755)), {
    selector: ([at]) => at,
    maxLength: 12,
  })
  .map((all) => {
    // A name cannot be a file and a folder at once.
    const folders = new Set(foldersOf(all.map(([at]) => file(at, ""))));
    return all.filter(([at]) => !folders.has(at)).map(([at, bytes, mode]) => file(at, bytes, mode));
  });
const sorted = (all: readonly File[]): File[] => [...all].sort((a, b) => (a.path < b.path ? -1 : 1));
const plain = (all: readonly File[]): unknown =>
  sorted(all).map((one) =>
    "bytes" in one ? { ...one, bytes: Buffer.from(one.bytes).toString("hex") } : one,
  );

describe("tar()", () => {
  test("gives back every file it was given", () => {
    fc.assert(
      fc.property(files, (all) => {
        expect(plain(untar(tar(all, { time: 1 })))).toEqual(plain(all));
      }),
    );
  });

  test("does not depend on the order of its files", () => {
    fc.assert(
      fc.property(files, (all) => tar(all, { time: 7 }).equals(tar([...all].reverse(), { time: 7 }))),
    );
  });

  test("is read by the system's tar: owners, modes, links, folders, names over 100 bytes", () => {
    const long = `${"folder/".repeat(15)}${"n".repeat(90)}`;
    const archive = tar(
      [
        file("bin/run", "#!/bin/sh\n", 0o755),
        file(long, "x"),
        { path: "bin/link", link: "run" },
        { path: "tmp", mode: 0o1777, owner: 0 },
        { path: "state", mode: 0o700, owner: 65_534 },
      ],
      { time: 1_790_000_000, prefix: "./" },
    );
    const { status, stdout } = spawnSync("tar", ["-tv", "--numeric-owner"], {
      input: archive,
      encoding: "utf8",
      env: { TZ: "UTC", PATH: process.env["PATH"] },
    });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^-rwxr-xr-x 0\/0 +10 2026-09-21 .* \.\/bin\/run$/m);
    expect(stdout).toMatch(/^lrwxrwxrwx 0\/0 .* \.\/bin\/link -> run$/m);
    expect(stdout).toMatch(/^drwxrwxrwt 0\/0 .* \.\/tmp\/$/m);
    expect(stdout).toMatch(/^drwx------ 65534\/65534 .* \.\/state\/$/m);
    expect(stdout).toContain(`./${long}\n`);
  });

  test("refuses a name twice and a name it cannot store", () => {
    expect(() => tar([file("a", ""), file("a", "")], { time: 0 })).toThrow("hold a twice");
    expect(() => tar([file("x".repeat(101), "")], { time: 0 })).toThrow("too long");
  });

  test("reading says when an archive is cut", () => {
    const archive = tar([file("a", "x".repeat(2000))], { time: 0 });
    expect(() => untar(archive.subarray(0, 1024))).toThrow("middle of a file");
  });
});

describe("ar()", () => {
  test("gives back its members, odd lengths included", () => {
    const members = [
      ["debian-binary", Buffer.from("2.0\n")],
      ["odd", Buffer.from("abc")],
      ["even", Buffer.from("abcd")],
    ] as const;
    const read = unar(ar(members, 5));
    expect([...read].map(([key, bytes]) => [key, Buffer.from(bytes).toString()])).toEqual([
      ["debian-binary", "2.0\n"],
      ["odd", "abc"],
      ["even", "abcd"],
    ]);
    expect(() => unar(Buffer.from("hello"))).toThrow("not an ar archive");
  });
});
