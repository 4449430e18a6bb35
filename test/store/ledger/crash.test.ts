// A metering process killed with SIGKILL at random instants: nothing that was acknowledged is lost, nothing is counted
// twice, and the next one starts without any repair by hand.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { LedgerReader } from "../../../agent/store/ledger/reader.ts";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { temporaryFolder } from "./fixture.ts";

const KILLS = 6;
const writer = fileURLToPath(new URL("../../fakes/ledger-writer-process.ts", import.meta.url));

/** Runs the writer until it acknowledged `beats` totals, kills it in the middle of what follows; the last total. */
async function runAndKill(folder: string, beats: number): Promise<{ first: number; last: number }> {
  const child = spawn(process.execPath, [writer, folder], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  let text = "";
  for await (const chunk of child.stdout) {
    text += String(chunk);
    if (text.split("\n").length > beats) child.kill("SIGKILL");
  }
  await ended;
  const totals = text.split("\n").slice(0, -1).map(Number);
  return { first: totals[0] ?? 0, last: totals.at(-1) ?? 0 };
}

it("LedgerStore.commit() loses nothing it acknowledged when the process is killed", {
  timeout: 60_000,
}, async () => {
  const { folder, remove } = temporaryFolder();
  try {
    let acknowledged = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const { first, last } = await runAndKill(folder, 5 + Math.floor(Math.random() * 40));
      // At most the one beat that was stored but not yet acknowledged lies between.
      expect([acknowledged + 1, acknowledged + 2]).toContain(first);
      acknowledged = last;
    }
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
    const reader = new LedgerReader(ledgerPath(folder));
    const series = reader.series(new Set(["tokenwatt.tokens"]));
    const sum = [...reader.sums(0, 2 ** 31, series).values()].reduce((all, moved) => all + Number(moved), 0);
    expect([acknowledged, acknowledged + 1]).toContain(sum);
    reader.close();
  } finally {
    remove();
  }
});
