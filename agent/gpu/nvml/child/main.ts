// The NVML reader child: a process of its own, because a driver call can hang and cannot be cancelled, and a wrong
// pointer kills whoever made the call. It answers the parent's asks one after another; its only timer keeps its memory small.
// It outlives neither its parent (PDEATHSIG, disconnect) nor a Ctrl-C of its own: signals to the group are the parent's.
import { systemClock } from "../../../platform/clock.ts";
import { keepProgramPagesFew } from "../../../platform/own-process.ts";
import { nameProcess } from "../../../platform/process-name.ts";
import type { Answer, Ask, Failure, OpenOptions } from "../protocol.ts";
import { indexName } from "../protocol.ts";
import { NvmlFailure } from "./device.ts";
import { dieWithParent, openLibrary } from "./library.ts";
import { Reader } from "./reader.ts";

nameProcess("tokenwatt-nvml");
dieWithParent();
keepProgramPagesFew(systemClock());
process.on("SIGINT", () => {});
process.on("SIGTERM", () => {});
process.on("SIGHUP", () => {});
process.on("disconnect", () => process.exit(0));

let reader: Reader | undefined;
let queue: Promise<void> = Promise.resolve();

process.on("message", (ask: Ask) => {
  const arrived = monotonic();
  queue = queue.then(() => answer(ask, arrived));
});

type Body<Kind = Answer> = Kind extends Answer ? Omit<Kind, "id" | "arrived" | "left"> : never;

async function answer(ask: Ask, arrived: number): Promise<void> {
  const say = (body: Body): void => {
    if (process.connected) process.send?.({ ...body, id: ask.id, arrived, left: monotonic() });
  };
  try {
    if (ask.ask === "open") say({ answer: "inventory", inventory: open(ask.options, say) });
    else if (ask.ask === "enumerate") say({ answer: "inventory", inventory: opened().enumerate() });
    else if (ask.ask === "poll") poll(ask, say);
    else {
      await reader?.close();
      reader = undefined;
      say({ answer: "closed" });
    }
  } catch (error) {
    say({ answer: "failed", failure: failureOf(error) });
  }
}

function open(options: OpenOptions, say: (body: Body) => void): ReturnType<Reader["open"]> {
  const { only, skip = [] } = options;
  const opening = new Reader(openLibrary(options.libraryPath), options, {
    wanted: (index) => (only === undefined ? !skip.includes(index) : index === only),
    begin: (index) => say({ answer: "begin", gpu: indexName(index) }),
  });
  const inventory = opening.open();
  reader = opening;
  return inventory;
}

function opened(): Reader {
  if (reader === undefined) throw new Error("Cannot read GPUs: the library is not open");
  return reader;
}

/**
 * One round over all GPUs, in one go: what is said leaves at once (the channel is a socket with room for a hundred readings),
 * so that the parent has what was read even if the next GPU hangs. When every GPU fails for a reason of the library, the round itself has
 * failed.
 */
function poll(ask: Extract<Ask, { ask: "poll" }>, say: (body: Body) => void): void {
  const reader = opened();
  let read = 0;
  const lost: { gpu: string; failure: Failure; lifecycle: boolean }[] = [];
  const order = reader.order(ask.skip, ask.last);
  // The GPU that the parent knows to be read now.
  let begun: string | undefined;
  for (const [place, found] of order.entries()) {
    if (begun !== found.device.uuid) say({ answer: "begin", gpu: found.device.uuid });
    const outcome = reader.read(found);
    if ("reading" in outcome) {
      read++;
      begun = order[place + 1]?.device.uuid;
      say({ answer: "reading", reading: outcome.reading, ...(begun === undefined ? {} : { next: begun }) });
    } else {
      lost.push({ gpu: found.device.uuid, failure: outcome.lost, lifecycle: outcome.lifecycle });
    }
  }
  const library = lost.find(({ lifecycle }) => lifecycle);
  if (read === 0 && library !== undefined) {
    say({ answer: "failed", failure: library.failure });
    return;
  }
  for (const { gpu, failure } of lost) say({ answer: "lost", gpu, failure });
  reader.tidy();
  const inventory = reader.topologyChanged() ? reader.enumerate() : undefined;
  const status = reader.status();
  say({
    answer: "done",
    ...(inventory === undefined ? {} : { inventory }),
    ...(status === undefined ? {} : { status }),
  });
}

function failureOf(error: unknown): Failure {
  if (error instanceof NvmlFailure) return error.failure;
  return { message: error instanceof Error ? error.message : String(error) };
}

function monotonic(): number {
  return Number(process.hrtime.bigint());
}
