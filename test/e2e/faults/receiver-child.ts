// A receiver alone in a process, for receivers.e2e.ts: says where it listens, and at the end its memory and its tokens.
import { receiverKinds, runReceiver } from "../../fakes/receivers.ts";

const kind = receiverKinds.find(({ name }) => name === process.argv[2]);
if (kind === undefined) throw new Error(`Cannot run a receiver ${process.argv[2]}`);
const running = runReceiver(kind);
const rss = (): number => process.memoryUsage.rss() / 2 ** 20;
const address = await running.address();
const base = rss();
let peak = base;
setInterval(() => {
  peak = Math.max(peak, rss());
}, 20);
process.on("message", () => {
  const tokens = running.samples.at(-1)?.readings.reduce((sum, { tokens }) => sum + (tokens.output ?? 0), 0);
  process.send?.({ base, peak, tokens });
});
process.send?.({ address });
