// Hosts drawn by chance: the same draw is the same host, and what is measured wrong on one in good order says that it may be.
import { describe, expect, test } from "vitest";
import { judge } from "./judge.ts";
import { randomHost } from "./random-hosts.ts";

describe("randomHost()", () => {
  test("draws the same host from the same seed, and by another poll the same work on it", () => {
    for (let number = 1; number <= 50; number++) {
      const drawn = randomHost({ number, seed: 1, pollMs: 1000 });
      expect(randomHost({ number, seed: 1, pollMs: 1000 })).toEqual(drawn);
      const slower = randomHost({ number, seed: 1, pollMs: 5000 });
      expect([slower.host, slower.gpus]).toEqual([drawn.host, drawn.gpus]);
      for (const { pollMs } of Object.values(slower.pages)) expect(pollMs).toBeGreaterThanOrEqual(5000);
    }
  });

  test("draws every kind of driver, page and host before long, and no losses or late pages on plain ones", () => {
    const words = new Set<string>();
    for (let number = 1; number <= 200; number++) {
      for (const word of randomHost({ number, seed: 1, pollMs: 1000 }).name.split(/[ ,;:]+/)) words.add(word);
      const plain = randomHost({ number, seed: 1, pollMs: 1000, isPlain: true });
      expect(plain.host.gpus).toHaveLength(1);
      expect([plain.gpus.lostShare, plain.gpus.lostWindows]).toEqual([0, 0]);
      for (const page of Object.values(plain.pages))
        expect(page).toMatchObject({ pollMs: 1000, answerMs: 4, refreshMs: 0 });
    }
    const wanted =
      "chat documents writer small guard embedding steady bursts waves tensor ranks apart each training notebook nvml shares nvidia-smi dcgm window finish gauge copy twice answers lost";
    expect(wanted.split(" ").filter((word) => !words.has(word))).toEqual([]);
  });
});

// Hosts on which something is beyond the bars of METERING.md 2: requests in flight without a gauge, windows that several share,
// joules of a stranger. What is wrong on others is table.ts's to say: `--random 40 --plain`.
describe("a plain host", () => {
  test.each([
    [5, 601, 5000],
    [8, 601, 5000],
    [17, 601, 5000],
    [22, 601, 5000],
    // Hosts that let their GPU do little, and prompts beside others, where a driver shows its last windows alone.
    [15, 8101, 1000],
    [2, 8102, 5000],
    [3, 8201, 5000],
  ])(
    "drawn as %d by seed %d and polled each %d ms is measured within the bars or says that it may not be, and by how much",
    async (number, seed, pollMs) => {
      const { checks } = await judge(randomHost({ number, seed, pollMs, isPlain: true }));
      const unmarked = checks.filter(({ isMarked, isRight }) => !isRight && !isMarked);
      expect(unmarked.map(({ quantity, subject }) => `${subject} ${quantity}`)).toEqual([]);
      const beyond = checks.filter(({ isCovered }) => !isCovered);
      expect(beyond.map(({ quantity, subject }) => `${subject} ${quantity}`)).toEqual([]);
    },
    60_000,
  );
});
