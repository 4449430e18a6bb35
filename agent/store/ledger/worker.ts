// The thread that owns the ledger database: one request at a time, in order, answered when it is on disk.
import { parentPort, workerData } from "node:worker_threads";
import { StateLocked } from "../state-folder.ts";
import type { LedgerFileOptions } from "./database.ts";
import { LedgerDatabase, LedgerGone } from "./database.ts";
import type { LedgerAnswer, LedgerRequest } from "./store.ts";

let ledger: LedgerDatabase | undefined;

parentPort?.on("message", (request: LedgerRequest) => {
  parentPort?.postMessage(answer(request));
});

function answer(request: LedgerRequest): LedgerAnswer {
  const { id } = request;
  try {
    return { id, value: perform(request) };
  } catch (error) {
    const { message } = error as Error;
    if (error instanceof StateLocked) return { id, error: { message, hint: error.hint, pid: error.pid } };
    return { id, error: error instanceof LedgerGone ? { message, gone: true } : { message } };
  }
}

function perform(request: LedgerRequest): unknown {
  if (request.kind === "open") {
    ledger = new LedgerDatabase(workerData as LedgerFileOptions);
    return ledger.opened;
  }
  if (ledger === undefined) throw new Error("the ledger is not open");
  if (request.kind === "commit") return ledger.commit(request.batch);
  if (request.kind === "delivered") return ledger.delivered(request.sink, request.bucket);
  if (request.kind === "spool") return ledger.startSpool(request.sequence);
  if (request.kind === "usage") return ledger.findUsage(request.keys);
  if (request.kind === "sums") return ledger.sumsSince(request.metrics, request.from);
  if (request.kind === "audit") return ledger.auditAfter(request.after, request.max);
  if (request.kind === "note") return ledger.writeAudit(request.entry);
  ledger.close();
  ledger = undefined;
  return undefined;
}
