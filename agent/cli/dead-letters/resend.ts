// `tokenwatt deadletters resend`: one request after another, oldest first, with the credentials of the configuration.
// A destination that is away is left alone with its first failure: its letters keep, the next call goes on.
import type { Destination } from "../../export/otlp/config.ts";
import { destinations } from "../../export/otlp/config.ts";
import { splitRequest } from "../../export/otlp/reader.ts";
import type { Delivery, Transport } from "../../export/otlp/transport.ts";
import { grpcTransport } from "../../export/otlp/transport.ts";
import type { DeadLetter, DeadLetters } from "../../store/dead-letters.ts";
import { loadConfigFor } from "../common/config-options.ts";
import { UsageError } from "../common/errors.ts";
import type { Io } from "../common/io.ts";
import { exitCodes, printLine, tell } from "../common/io.ts";
import type { LetterOptions } from "./chosen.ts";
import { chosenLetters } from "./chosen.ts";

/** What became of a letter: taken and removed, refused again, not sent, or gone before its turn. */
interface Result {
  readonly id: string;
  readonly destination: string;
  readonly outcome: "sent" | "refused" | "left" | "gone";
  readonly why?: string;
}

/** Sends the chosen letters; exit code 1 when one is left. Throws UsageError before it would break a series' order. */
export async function resend(
  ids: readonly string[],
  options: LetterOptions & { readonly outOfOrder?: boolean },
  io: Io,
): Promise<void> {
  const { config } = await loadConfigFor(options, io);
  const { chosen, letters } = await chosenLetters(ids, options, io);
  const targets = new Map(destinations(config.export.otlp).map((one) => [one.name, one]));
  const wanted = [...new Set(chosen.map((letter) => letter.destination))];
  if (options.outOfOrder !== true) refuseOrdered(wanted.flatMap((name) => targets.get(name) ?? []));
  const results: Result[] = [];
  for (const name of wanted) {
    const own = chosen.filter((letter) => letter.destination === name);
    const target = targets.get(name);
    if (target !== undefined) results.push(...(await sendAll(target, own, letters)));
    else results.push(...own.map((letter) => result(letter, "left", "no such destination in export.otlp")));
  }
  if (options.json === true) printLine(io, JSON.stringify(results));
  else for (const { id, outcome, why = "" } of results) printLine(io, `${id}  ${outcome}  ${why}`.trimEnd());
  const count = (outcome: Result["outcome"]): number =>
    results.filter((one) => one.outcome === outcome).length;
  tell(io, `sent ${count("sent")}, refused again ${count("refused")}, left ${count("left")}`);
  if (count("refused") + count("left") > 0) io.setExit(exitCodes.crashed);
}

function refuseOrdered(targets: readonly Destination[]): void {
  const ordered = targets.filter((target) => target.backlog !== "parallel").map((target) => target.name);
  if (ordered.length === 0) return;
  throw new UsageError(
    `Cannot send again to ${ordered.join(", ")}: points older than what was sent since would arrive out of order`,
    "give --out-of-order where the destination takes them (Prometheus and Mimir: out_of_order_time_window), or drop them",
  );
}

async function sendAll(
  target: Destination,
  own: readonly DeadLetter[],
  letters: DeadLetters,
): Promise<Result[]> {
  const transport = grpcTransport(target.target, { gzip: target.gzip });
  const results: Result[] = [];
  let away: string | undefined;
  try {
    for (const letter of own) {
      const one =
        away === undefined ? await sendOne(letter, transport, target.timeoutMs, letters) : undefined;
      results.push(one ?? result(letter, "left", away));
      if (one?.outcome === "left") away = one.why;
    }
  } finally {
    transport.close();
  }
  return results;
}

async function sendOne(
  letter: DeadLetter,
  transport: Transport,
  timeoutMs: number,
  letters: DeadLetters,
): Promise<Result> {
  const request = await letters.read(letter);
  if (request === undefined) {
    const isThere = (await letters.list()).some(({ id }) => id === letter.id);
    return isThere ? result(letter, "refused", "the file is damaged") : result(letter, "gone");
  }
  const left: Uint8Array[] = [request];
  let refused: string | undefined;
  for (let bytes = left[0]; bytes !== undefined; bytes = left[0]) {
    const deadline = AbortSignal.timeout(timeoutMs);
    const delivery = await transport.send(bytes, deadline);
    if (deadline.aborted) return result(letter, "left", `no answer within ${timeoutMs} ms`);
    if (delivery.kind === "retry") return result(letter, "left", textOf(delivery));
    const halves = delivery.kind === "too_large" ? splitRequest(bytes) : undefined;
    left.splice(0, 1, ...(halves ?? []));
    if (halves === undefined && delivery.kind !== "accepted") refused = textOf(delivery);
  }
  if (refused !== undefined) return result(letter, "refused", refused);
  await letters.remove(letter);
  return result(letter, "sent");
}

function textOf(delivery: Delivery): string {
  const code = "code" in delivery ? delivery.code : delivery.kind;
  return `${code}: ${delivery.message ?? ""}`;
}

function result(letter: DeadLetter, outcome: Result["outcome"], why?: string): Result {
  const { destination, id } = letter;
  return { id, destination, outcome, ...(why === undefined ? {} : { why }) };
}
