// Prints how well each regime is measured, at 1 s and at 5 s polls: node test/simulator/table.ts [--seeds 3] [--first 1] [word ..]
// With `--random 40` it prints so many hosts drawn by chance instead, with `--plain` ones in good order.
// Errors are shares of the recording's length, and behind the second bar that of the joules of the time in execution; what misses a bar of METERING.md 2 is named behind, and what of it the
// pipeline does not say itself to rest on an assumption (`UNMARKED`), or says of too little of it (`BEYOND` its doubt, in bars).
import type { Figures } from "./judge.ts";
import { judge, percent } from "./judge.ts";
import type { Regime } from "./meters.ts";
import { randomHost } from "./random-hosts.ts";
import { regime, regimes } from "./regimes.ts";

const words = process.argv.slice(2);
const seeds = numberAfter("--seeds") ?? 1;
const first = numberAfter("--first") ?? 1;
const random = numberAfter("--random");
const isPlain = words.includes("--plain");
if (isPlain) words.splice(words.indexOf("--plain"), 1);

let [within, runs] = [0, 0];
const figuresBy = { right: 0, rightMarked: 0, wrongMarked: 0, wrongUnmarked: 0, beyondDoubt: 0 };
for (const drawn of random === undefined ? ofRegimes() : ofHosts(random)) {
  const figures = await judge(drawn);
  runs++;
  if (figures.missed.length === 0) within++;
  for (const { isCovered, isMarked, isRight } of figures.checks) {
    if (isMarked && !isCovered) figuresBy.beyondDoubt++;
    if (isRight) figuresBy[isMarked ? "rightMarked" : "right"]++;
    else figuresBy[isMarked ? "wrongMarked" : "wrongUnmarked"]++;
  }
  console.log(lineOf(drawn, figures));
}
const { beyondDoubt, right, rightMarked, wrongMarked, wrongUnmarked } = figuresBy;
console.log(`${within} of ${runs} within the bars`);
console.log(
  `figures: ${wrongMarked + wrongUnmarked} wrong, ${wrongMarked} of them marked (${beyondDoubt} beyond their doubt) and ${wrongUnmarked} unmarked; ${right + rightMarked} right, ${rightMarked} of them marked`,
);

function numberAfter(option: string): number | undefined {
  const at = words.indexOf(option);
  return at < 0 ? undefined : Number(words.splice(at, 2)[1]);
}

function* ofRegimes(): Iterable<Regime> {
  for (const name of Object.keys(regimes).filter(isWanted))
    for (const pollMs of [1000, 5000])
      for (let seed = first; seed < first + seeds; seed++) yield regime(name, seed, pollMs);
}

function* ofHosts(count: number): Iterable<Regime> {
  for (let seed = first; seed < first + seeds; seed++)
    for (let number = 1; number <= count; number++)
      for (const pollMs of [1000, 5000]) {
        const drawn = randomHost({ number, seed, pollMs, isPlain });
        if (isWanted(drawn.name)) yield drawn;
      }
}

function isWanted(name: string): boolean {
  return words.every((word) => name.includes(word));
}

function lineOf({ name, pages, seed }: Regime, figures: Figures): string {
  const servers = Object.entries(figures.servers).map(
    ([id, { duty, active, windows, energy, uncertain }]) =>
      `${id} ${duty.toFixed(3)} ${signed(active)} ${windows.toFixed(3)} ${percent(energy)} u${uncertain.toFixed(2)}`,
  );
  const unmarked = figures.checks
    .filter(({ isMarked, isRight }) => !isRight && !isMarked)
    .map(({ quantity, subject }) => `${subject} ${quantity}`);
  const beyond = figures.checks
    .filter(({ isCovered, isMarked }) => isMarked && !isCovered)
    .map(({ beyond, quantity, subject }) => `${subject} ${quantity} ${beyond.toFixed(1)}`);
  const pollMs = Math.min(...Object.values(pages).map((page) => page.pollMs));
  const line = `${name.padEnd(38)} ${pollMs / 1000} s ${String(seed).padStart(3)} | ${signed(figures.whole)} ${figures.windows.toFixed(3)} | ${servers.join("; ")} | ${figures.activeEnergy === undefined ? "" : percent(figures.activeEnergy)}`;
  const missed = figures.missed.length > 0 ? `  ! ${figures.missed.join(", ")}` : "";
  const marks = [
    ...(unmarked.length > 0 ? [` UNMARKED ${unmarked.join(", ")}`] : []),
    ...(beyond.length > 0 ? [` BEYOND ${beyond.join(", ")}`] : []),
  ];
  return `${line}${missed}${marks.join("")}`;
}

function signed(value: number): string {
  return `${value >= 0 ? "+" : ""}${value.toFixed(3)}`;
}
