// Prints how well each regime is measured, at 1 s and at 5 s polls: node test/simulator/table.ts [--seeds 3] [word ..]
// Errors are shares of the recording's length, and behind the second bar that of the joules of the time in execution; what misses a bar of METERING.md 2 is named behind, and what of it the
// pipeline does not say itself to rest on an assumption (`UNMARKED`).
import { judge, percent } from "./judge.ts";
import { regime, regimes } from "./regimes.ts";

const words = process.argv.slice(2);
const at = words.indexOf("--seeds");
const seeds = at < 0 ? 1 : Number(words.splice(at, 2)[1]);
const firstAt = words.indexOf("--first");
const first = firstAt < 0 ? 1 : Number(words.splice(firstAt, 2)[1]);
const names = Object.keys(regimes).filter((name) => words.every((word) => name.includes(word)));
let [missed, all] = [0, 0];
const figuresBy = { right: 0, rightMarked: 0, wrong: 0, wrongUnmarked: 0 };
for (const name of names)
  for (const pollMs of [1000, 5000])
    for (let seed = first; seed < first + seeds; seed++) {
      const figures = await judge(regime(name, seed, pollMs));
      all++;
      if (figures.missed.length > 0) missed++;
      const unmarked: string[] = [];
      for (const { isMarked, isRight, quantity, subject } of figures.checks) {
        figuresBy[isRight ? "right" : "wrong"]++;
        if (isRight && isMarked) figuresBy.rightMarked++;
        if (isRight || isMarked) continue;
        figuresBy.wrongUnmarked++;
        unmarked.push(`${subject} ${quantity}`);
      }
      const servers = Object.entries(figures.servers).map(
        ([id, { duty, active, windows, energy, uncertain }]) =>
          `${id} ${duty.toFixed(3)} ${signed(active)} ${windows.toFixed(3)} ${percent(energy)} u${uncertain.toFixed(2)}`,
      );
      const line = `${name.padEnd(38)} ${pollMs / 1000} s ${String(seed).padStart(3)} | ${signed(figures.whole)} ${figures.windows.toFixed(3)} | ${servers.join("; ")} | ${figures.activeEnergy === undefined ? "" : percent(figures.activeEnergy)}`;
      console.log(
        figures.missed.length > 0
          ? `${line}  ! ${figures.missed.join(", ")}${unmarked.length > 0 ? ` UNMARKED ${unmarked.join(", ")}` : ""}`
          : line,
      );
    }
console.log(`${all - missed} of ${all} within the bars`);
const { right, rightMarked, wrong, wrongUnmarked } = figuresBy;
console.log(
  `figures: ${wrong} wrong, ${wrongUnmarked} of them unmarked; ${right} right, ${rightMarked} of them marked`,
);

function signed(value: number): string {
  return `${value >= 0 ? "+" : ""}${value.toFixed(3)}`;
}
