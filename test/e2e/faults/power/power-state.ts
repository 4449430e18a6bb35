// The durable half of the power test's agent, opened the same way by the recorded process and by the judge.
import { spoolRows } from "../../../../agent/daemon/durable-state.ts";
import { Books } from "../../../../agent/meter/books.ts";
import type { LedgerBatch, LedgerSnapshot } from "../../../../agent/model.ts";
import { silentLog } from "../../../../agent/platform/log.ts";
import { LedgerStore } from "../../../../agent/store/ledger/store.ts";
import { openSegmentSpool } from "../../../../agent/store/spool/segment-spool.ts";
import type { Spool, SpoolEntry } from "../../../../agent/store/spool/spool.ts";
import { DESTINATIONS, SERIES, START, stepOf } from "./power-truth.ts";

export { START } from "./power-truth.ts";

const BEAT_KEY = '["beat"]';
const SPOOL_KEY = '["spool"]';

export interface PowerState {
  readonly spool: Spool;
  /** Newest committed beat, 0 in a new state. */
  readonly beat: number;
  /** Books one beat. */
  post(beat: number, life: number, time: bigint): { batch: LedgerBatch; snapshot: LedgerSnapshot };
  /** Segment synced, ledger committed, promised, then sent. */
  commit(batch: LedgerBatch, entries: readonly SpoolEntry[], promise: () => void): Promise<void>;
  close(): Promise<void>;
}

/** Opens or makes the state; throws where a real agent would not start. */
export async function openPowerState(folder: string, bytesMax: number): Promise<PowerState> {
  const ledger = await LedgerStore.open({ folder, pid: process.pid, freeBytesMin: 0 });
  const { quarantined, restored, spoolStart } = ledger.opened;
  if (quarantined !== undefined) throw new Error(`the ledger is damaged: ${quarantined.reason}`);
  const kept = (key: string): number => Number(restored?.state.find((row) => row.key === key)?.value ?? 0);
  const committed = restored === undefined ? spoolStart : kept(SPOOL_KEY);
  const spool = await openSegmentSpool({
    folder: `${folder}/spool`,
    destinations: DESTINATIONS,
    log: silentLog,
    bytesMax,
    segmentBytes: 4096,
    freeBytesMin: 0,
    ...(committed === undefined ? {} : { committed }),
  });
  if (committed === undefined) await ledger.startSpool(spool.head());
  const start = restored === undefined ? START : BigInt(restored.time);
  const books = new Books({ start, unixNanos: (at) => START + BigInt(Math.round(at)) }, restored);
  return {
    spool,
    beat: kept(BEAT_KEY),
    post: (beat, life, time) => {
      const tokens = (series: number, amount: number) => ({
        metric: "tokenwatt.tokens",
        dimensions: { "tokenwatt.server.id": `power-${series}`, "tokenwatt.token.kind": "output" },
        amount,
      });
      const steps = Array.from({ length: SERIES }, (_, series) => tokens(series, stepOf(series, beat)));
      books.ledger.postUntil([...steps, tokens(SERIES, life)], time);
      return books.commit(time, Number(time - START), [{ key: BEAT_KEY, value: String(beat) }]);
    },
    commit: async (batch, entries, promise) => {
      const sequence = await spool.append(entries);
      await ledger.commit({
        ...batch,
        state: [...batch.state, ...spoolRows(spool, sequence, batch.sequence)],
      });
      promise();
      spool.commit(sequence);
    },
    close: async () => {
      await spool.close();
      await ledger.close();
    },
  };
}
