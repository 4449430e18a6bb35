// `tokenwatt audit`: the audit record, oldest first, each entry checked against the hash chain before it is printed.
// Reads only, beside the agent or without it. Exit code 2 where the chain breaks, or does not hold a head of --since-head.
import type { Command } from "commander";
import type { AuditKind } from "../model.ts";
import { auditKinds } from "../model.ts";
import type { AuditReader, BrokenChain, StoredAudit } from "../store/ledger/audit.ts";
import type { ChainHead } from "../store/ledger/verify.ts";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions } from "./common/config-options.ts";
import { UsageError } from "./common/errors.ts";
import type { Io } from "./common/io.ts";
import { exitCodes, printLine, tell } from "./common/io.ts";
import { ledgerFile } from "./report.ts";

interface AuditOptions extends ConfigOptions {
  readonly kind?: string;
  readonly from?: string;
  readonly to?: string;
  readonly timeZone: string;
  readonly sinceHead?: string;
  readonly follow?: boolean;
  readonly json?: boolean;
  readonly stateDir?: string;
}

const FOLLOW_MS = 1000;

/** Adds `tokenwatt audit`. */
export function register(program: Command, io: Io): void {
  addConfigOptions(
    program.command("audit").description("print the audit record: who, what and when, proved by its chain"),
  )
    .option("--kind <kinds>", `only these, with commas: ${auditKinds.join(", ")}`)
    .option("--from <time>", "first instant: today, 7d, 24h, last-month, 2026-11-01, 2026-11-01T06:15Z")
    .option("--to <time>", "end, exclusive")
    .option("--time-zone <name>", "zone of dates without one", "UTC")
    .option(
      "--since-head <file>",
      "only what was written after the last head in this file, which must be in the chain",
    )
    .option("--follow", "go on with what is written, until stopped")
    .option("--state-dir <folder>", "where the ledger lies (default: stateDir of the configuration)")
    .option("--json", "print one JSON object per line")
    .addHelpText(
      "after",
      `
Examples:
  tokenwatt audit --from 7d
  tokenwatt audit --kind access --from today --json | jq '.body.callers'
  tokenwatt audit --kind config,price,correction --from last-month
  tokenwatt audit --since-head heads.jsonl --follow

Every entry from the first on is checked, whatever is printed; exit code 2 where the chain breaks.`,
    )
    .action((options: AuditOptions) => audit(options, io));
}

async function audit(options: AuditOptions, io: Io): Promise<void> {
  const { existsSync } = await import("node:fs");
  const { AuditReader } = await import("../store/ledger/audit.ts");
  const { NoLedger } = await import("../store/ledger/reader.ts");
  const wanted = await readFilter(options);
  const path = await ledgerFile(options, io);
  if (!existsSync(path)) throw new NoLedger(path);
  const reader = new AuditReader(path);
  try {
    const printed = new Printing(reader, wanted, options.json === true, io);
    printed.print();
    if (options.follow === true) await follow(printed);
    printed.tellEnd();
  } finally {
    reader.close();
  }
}

/** What is printed. */
interface Filter {
  readonly kinds: ReadonlySet<AuditKind> | undefined;
  readonly from: bigint | undefined;
  readonly to: bigint | undefined;
  readonly head: ChainHead | undefined;
}

async function readFilter({ from, kind, sinceHead, timeZone, to }: AuditOptions): Promise<Filter> {
  const { readInstant, readZone } = await import("./report/range.ts");
  const { systemClock } = await import("../platform/clock.ts");
  const zone = readZone(timeZone);
  const clock = systemClock();
  const now = Number(clock.unixNanos(clock.now()) / 1_000_000n);
  const instant = (flag: string, text: string | undefined): bigint | undefined =>
    text === undefined ? undefined : BigInt(readInstant(flag, text, zone, now)) * 1_000_000n;
  const { readHeads } = await import("./common/chain-heads.ts");
  const heads = sinceHead === undefined ? [] : await readHeads("--since-head", sinceHead);
  return {
    kinds: kind === undefined ? undefined : new Set(kind.split(",").map(kindOf)),
    from: instant("--from", from),
    to: instant("--to", to),
    head: heads.toSorted((one, other) => one.length - other.length).at(-1),
  };
}

function kindOf(text: string): AuditKind {
  const found = auditKinds.find((kind) => kind === text.trim());
  if (found === undefined)
    throw new UsageError(`Cannot use --kind: got "${text}"`, `wanted some of ${auditKinds.join(", ")}`);
  return found;
}

/** Prints what a filter lets through, as far as the chain holds. */
class Printing {
  readonly #reader: AuditReader;
  readonly #wanted: Filter;
  readonly #asJson: boolean;
  readonly #io: Io;
  #last: StoredAudit | undefined;
  #shown = 0;
  isBroken = false;

  constructor(reader: AuditReader, wanted: Filter, asJson: boolean, io: Io) {
    this.#reader = reader;
    this.#wanted = wanted;
    this.#asJson = asJson;
    this.#io = io;
  }

  /** Everything written since the last call. */
  print(): void {
    if (this.isBroken) return;
    for (const entry of this.#reader.read()) {
      if ("message" in entry || !this.#fitsHead(entry)) {
        this.#break(entry);
        return;
      }
      this.#last = entry;
      if (!this.#isWanted(entry)) continue;
      this.#shown++;
      printLine(this.#io, this.#asJson ? jsonLine(entry) : textLine(entry));
    }
  }

  /** What was read, for people; and the exit code. */
  tellEnd(): void {
    const { head } = this.#wanted;
    const read = this.#last?.sequence ?? 0;
    if (!this.isBroken && head !== undefined && read < head.length) {
      this.isBroken = true;
      tell(
        this.#io,
        `the record ends at ${read}, and had ${head.length} entries when the head left: it was rewritten`,
      );
    }
    if (this.isBroken) this.#io.setExit(exitCodes.misconfigured);
    else
      tell(
        this.#io,
        `${this.#shown} of ${read} entries; the chain holds, head ${this.#last?.hash ?? "none"}`,
      );
  }

  #isWanted({ at, kind, sequence }: StoredAudit): boolean {
    const { from, head, kinds, to } = this.#wanted;
    if (head !== undefined && sequence <= head.length) return false;
    return (from === undefined || at >= from) && (to === undefined || at < to) && kinds?.has(kind) !== false;
  }

  #fitsHead({ hash, sequence }: StoredAudit): boolean {
    const { head } = this.#wanted;
    return head === undefined || sequence !== head.length || hash.startsWith(head.hash);
  }

  #break(entry: StoredAudit | BrokenChain): void {
    this.isBroken = true;
    const why =
      "message" in entry ? entry.message : "it left the host with another hash: the history was rewritten";
    tell(this.#io, `entry ${entry.sequence} (${entry.kind}): ${why}`);
  }
}

/** Prints until the process is asked to stop, or the chain breaks. */
async function follow(printed: Printing): Promise<void> {
  const stop = new AbortController();
  const { systemClock } = await import("../platform/clock.ts");
  const onSignal = (): void => stop.abort();
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  try {
    while (!stop.signal.aborted && !printed.isBroken) {
      await systemClock()
        .sleep(FOLLOW_MS, stop.signal)
        .catch(() => {});
      printed.print();
    }
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

function jsonLine({ at, body, hash, kind, sequence }: StoredAudit): string {
  return JSON.stringify({ sequence, time: timeOf(at), at: String(at), kind, body, hash });
}

function textLine({ at, body, kind, sequence }: StoredAudit): string {
  const facts = Object.entries(body).map(([name, value]) => `${name}=${shown(value)}`);
  return [`${timeOf(at)} ${String(sequence).padStart(6)} ${kind.padEnd(10)}`, ...facts].join(" ");
}

function timeOf(at: bigint): string {
  return new Date(Number(at / 1_000_000n)).toISOString();
}

/** Instants as times; what is not one word in quotes, as JSON writes it. */
function shown(value: unknown): string {
  if (typeof value === "string" && /^1\d{18}$/.test(value)) return timeOf(BigInt(value));
  if (typeof value === "string" && /^[\w.:@/+-]+$/.test(value)) return value;
  return JSON.stringify(value);
}
