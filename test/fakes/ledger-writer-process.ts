// A process that meters into a ledger as fast as it can and prints each total once it is stored. Made to be killed.
import { Books } from "../../agent/meter/books.ts";
import { LedgerStore } from "../../agent/store/ledger/store.ts";

const START = 1_793_491_200_000_000_000n;
const folder = process.argv[2] ?? "";
const store = await LedgerStore.open({ folder, pid: process.pid, freeBytesMin: 0 });
const { restored } = store.opened;
let time = restored === undefined ? START : BigInt(restored.time);
const books = new Books({ start: time, unixNanos: (at) => START + BigInt(Math.round(at)) }, restored);
for (;;) {
  // Sixteen beats a bucket, so that kills also fall on seals.
  time += 56_250_000_000n;
  const posting = { metric: "tokenwatt.tokens", dimensions: { "tokenwatt.server.id": "a" }, amount: 1 };
  books.ledger.postUntil([posting], time);
  const { batch, snapshot } = books.commit(time, Number(time - START));
  await store.commit(batch);
  process.stdout.write(`${snapshot.points.find((point) => point.metric === "tokenwatt.tokens")?.value}\n`);
}
