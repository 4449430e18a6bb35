// A nearly full disk keeps bucket rows in memory; a process that dies then must not take them along.
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { verifyLedger } from "../../../agent/store/ledger/verify.ts";
import { ledgerPath } from "../../../agent/store/state-folder.ts";
import { Bookkeeper, temporaryFolder, tokens } from "./fixture.ts";

test("bookings that waited for room when the agent was killed are in the ledger after its next start", () => {
  const { folder, remove } = temporaryFolder();
  const sum = (): Record<string, unknown> | undefined => {
    const database = new DatabaseSync(ledgerPath(folder), { readOnly: true });
    const found = database
      .prepare(
        "SELECT sum(amount) AS amount, (SELECT count(*) FROM audit WHERE kind = 'gap') AS told FROM rows",
      )
      .get();
    database.close();
    return found;
  };
  let free = 1e12;
  const options = { freeBytesMin: 1e9, freeBytes: () => free };
  const first = new Bookkeeper(folder, options);
  first.post(5, tokens("a", 100));
  first.beat(10);
  free = 1000;
  first.post(15, tokens("a", 7), tokens("b", 50));
  first.post(1800, tokens("a", 3));
  expect(first.beat(1810).stored).toMatchObject({ stored: "totals" });
  // Closing writes nothing, as a kill would not.
  first.close();
  const { notes, problems } = verifyLedger(ledgerPath(folder));
  expect([problems, notes]).toEqual([
    [],
    [expect.stringMatching(/^totals of 2 series are ahead of their rows/)],
  ]);
  const second = new Bookkeeper(folder, { ...options, seconds: 1900 });
  second.post(1905, tokens("a", 1));
  free = 1e12;
  second.beat(1910);
  second.close();
  expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  expect(sum()).toEqual({ amount: 161, told: 1 });
  const third = new Bookkeeper(folder, { ...options, seconds: 2000 });
  third.close();
  expect(sum()).toEqual({ amount: 161, told: 1 });
  remove();
});
