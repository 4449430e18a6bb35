// An agent reduced to what must survive a power cut, run under record-calls.c: books -> spool -> ledger -> senders in
// the real order, two destinations of which one is often away. Beats go on from what the last life committed.
// Notes in `marks` that it began (`life <life>`), what it goes on from (`from <beat>`), what it promised (`commit <beat> <life>`) and what was seen outside (`got <destination> <beat>`).
// Usage: power-child.ts FOLDER LIFE SPACING_MS BYTES_MAX LIVES_MS SEED; it ends by SIGKILL after LIVES_MS.
import { appendFileSync } from "node:fs";
import { createOtlpEncoder } from "../../../../agent/export/otlp/encoder.ts";
import { Sender } from "../../../../agent/export/otlp/sender.ts";
import { systemClock } from "../../../../agent/platform/clock.ts";
import { silentLog } from "../../../../agent/platform/log.ts";
import { openPowerState, START } from "./power-state.ts";
import { beatOf, DESTINATIONS } from "./power-truth.ts";

const [folder = "", ...numbers] = process.argv.slice(2);
const [life = 0, spacingMs = 0, bytesMax = 0, livesMs = 0, seed = 0] = numbers.map(Number);

let random = seed * 1000 + life;
const roll = (): number => {
  random = (Math.imul(random, 1_664_525) + 1_013_904_223) >>> 0;
  return random / 2 ** 32;
};
const mark = (line: string): void => appendFileSync(`${folder}/marks`, `${line}\n`);

mark(`life ${life}`);
const clock = systemClock();
const state = await openPowerState(folder, bytesMax);
mark(`from ${state.beat}`);
const senders = DESTINATIONS.map((destination) => {
  const up = destination === "patient" || life % 3 === 0 ? 0.97 : 0.02;
  const sender = new Sender({
    destination,
    spool: state.spool,
    clock,
    log: silentLog,
    retryMs: { first: 3, longest: 10 },
    limits: { thinAfterMs: 1e15, drainTimesLive: 1e6, jitterMs: 0 },
    transport: {
      send: async (bytes) => {
        if (roll() > up) return { kind: "retry", code: "UNAVAILABLE", message: "away" };
        mark(`got ${destination} ${beatOf(bytes, spacingMs)}`);
        // Some answers are lost after the request was taken.
        if (roll() < 0.1) return { kind: "retry", code: "UNAVAILABLE", message: "answer lost" };
        return { kind: "accepted" };
      },
      close: () => {},
    },
  });
  sender.start();
  return sender;
});
const encoder = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" });
setTimeout(() => process.kill(process.pid, "SIGKILL"), livesMs * (0.5 + roll()));
for (let beat = state.beat + 1; senders.length > 0; beat++) {
  const { batch, snapshot } = state.post(beat, life, START + BigInt(beat * spacingMs) * 1_000_000n);
  await state.commit(batch, encoder.encode(snapshot), () => mark(`commit ${beat} ${life}`));
  await clock.sleep(roll() * 4);
}
