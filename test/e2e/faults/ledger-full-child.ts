// Fills the disk under a ledger and empties it again; prints what was stored meanwhile. Run by disk-full.e2e.ts.
import { rmSync, statfsSync, writeFileSync } from "node:fs";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { Bookkeeper, tokens } from "../../store/ledger/fixture.ts";

const folder = process.argv[2] ?? "";
const filler = `${folder}/filler`;
const free = (): number => Number(statfsSync(folder).bavail) * 4096;
/** Nearly full is what is full here. */
const options = { freeBytesMin: 65_536, freeBytes: free };

let keeper = new Bookkeeper(folder, options);
let seconds = 0;
let made = 0;
const stored: string[] = [];
const beat = (): void => {
  seconds += 10;
  made += 100;
  for (let server = 0; server < 50; server++)
    keeper.post(seconds, tokens(`s${server}`, server === 0 ? 100 : 1));
  try {
    stored.push(keeper.beat(seconds).stored.stored);
  } catch (error) {
    stored.push((error as Error).message);
  }
};
for (let i = 0; i < 3; i++) beat();
for (let left = free(); left > 4096; left = free()) {
  try {
    writeFileSync(filler, Buffer.alloc(Math.min(left, 65_536)), { flag: "a" });
  } catch {
    break;
  }
}
const freeWhenFull = free();
for (let i = 0; i < 1500; i++) beat();
const freeAfter = free();
rmSync(filler);
beat();
const healed = stored.at(-1);
keeper.close();
keeper = new Bookkeeper(folder, { ...options, seconds: seconds + 60 });
const { series } = keeper.books.ledger.state();
const restored = series.find((one) => one.dimensions["tokenwatt.server.id"] === "s0");
keeper.close();
const count = (what: string): number => stored.filter((one) => one === what).length;
console.log(
  JSON.stringify({
    freeWhenFull,
    freeAfter,
    beats: stored.length,
    storedTotals: count("totals"),
    failed: stored.length - count("totals") - count("all"),
    lostTokens: made - Number(restored?.total ?? 0),
    healed,
    problems: verifyLedger(ledgerPath(folder)).problems.length,
  }),
);
