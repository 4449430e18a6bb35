import { describe, expect, test } from "vitest";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import {
  keepProgramPagesFew,
  mappedPages,
  programPages,
  releaseProgramPages,
} from "../../agent/platform/own-process.ts";

const NODE = "/usr/lib/tokenwatt/bin/node";

function mapping(range: string, rights: string, file: string, rss: number, anonymous: number): string {
  return `${range} ${rights} 00af7000 fe:00 5243 ${" ".repeat(26)}${file}
Size:              44044 kB
Rss:               ${rss} kB
Pss:               ${rss} kB
Anonymous:         ${anonymous} kB
LazyFree:              0 kB
Locked:                0 kB
VmFlags: rd ex mr mw me
`;
}

const total = (pages: readonly { residentBytes: number }[]): number =>
  pages.reduce((sum, { residentBytes }) => sum + residentBytes, 0);

describe("mappedPages()", () => {
  test("takes what can be read again from the program's file, and nothing else", () => {
    const smaps = [
      mapping("00400000-00500000", "r-xp", NODE, 1000, 0),
      mapping("7f0000000000-7f0000002000", "r--p", NODE, 8, 0),
      mapping("7f0000002000-7f0000004000", "r--p", NODE, 8, 4), // relocated
      mapping("7f0000004000-7f0000006000", "rw-p", NODE, 8, 0),
      mapping("7f0000006000-7f0000008000", "r--s", NODE, 8, 0),
      mapping("7f0000008000-7f000000a000", "r-xp", "/usr/lib/libc.so.6", 8, 0),
      mapping("7f000000a000-7f000000c000", "rw-p", "", 8, 8),
    ].join("");
    expect(mappedPages(smaps, NODE)).toEqual([
      { address: 0x400000n, bytes: 0x100000, residentBytes: 1_024_000 },
      { address: 0x7f0000000000n, bytes: 0x2000, residentBytes: 8192 },
    ]);
  });

  test("leaves a mapping alone whose anonymous pages are not told", () => {
    const smaps = mapping("00400000-00500000", "r-xp", NODE, 1000, 0).replace(/Anonymous.*\n/, "");
    expect(mappedPages(smaps, NODE)).toEqual([]);
  });

  test("knows a program whose file was replaced by an upgrade", () => {
    const gone = `${NODE} (deleted)`;
    expect(mappedPages(mapping("00400000-00500000", "r-xp", gone, 4, 0), gone)).toHaveLength(1);
  });
});

describe("the pages of this process' program", () => {
  test("are given back, and what is used comes back by itself", async () => {
    const before = total(programPages());
    expect(await releaseProgramPages()).toBeGreaterThan(0.9 * before);
    expect(total(programPages())).toBeLessThan(0.8 * before);
    expect(JSON.parse('{"still":"works"}')).toEqual({ still: "works" });
  });

  test("are given back half a minute after the start and every hour", async () => {
    const given: unknown[] = [];
    const log = { ...silentLog, debug: (_: string, facts?: object) => given.push(facts) };
    const clock = virtualClock(0n);
    const stop = keepProgramPagesFew(clock, log);
    await clock.advance(29e9);
    expect(given).toHaveLength(0);
    await clock.advance(31e9);
    expect(given).toEqual([{ bytes: expect.any(Number) }]);
    await clock.advance(3700e9);
    stop();
    await clock.advance(9000e9);
    expect(given).toHaveLength(2);
  });
});
