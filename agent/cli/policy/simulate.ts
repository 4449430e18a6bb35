// `tokenwatt policy simulate`: what a policy file would have made of the ledger's past, window by window, and what it changes
// against another one. Nobody's behaviour is guessed: what came after a limit is counted as it was asked for.
import { readPolicy } from "../../config/policy.ts";
import { attributeOf } from "../../meter/names.ts";
import type { Policy, Quota } from "../../policy/config.ts";
import type { CutWindows, PastWindow } from "../../policy/past.ts";
import type { LedgerReader } from "../../store/ledger/reader.ts";
import { UsageError } from "../common/errors.ts";
import type { Io } from "../common/io.ts";
import { printLine, tell } from "../common/io.ts";
import { csv } from "../report/formats.ts";
import type { ReportRange } from "../report/range.ts";
import { readRange } from "../report/range.ts";
import { progressOn, tellIfEmpty } from "../report.ts";
import { chosenQuotas } from "./choice.ts";
import { readPast } from "./past.ts";
import type { Change } from "./past-changes.ts";
import { changeCells, changeColumns, changeObject, changesOf, changeTable } from "./past-changes.ts";
import { iso, orderOf, pastCells, pastColumns, pastObject } from "./past-rows.ts";
import type { CounterSum } from "./past-sums.ts";
import { CounterSums, sumObject, sumTable, windowTable } from "./past-sums.ts";

const simulateFormats = ["table", "csv", "json"] as const;

/** What the command line asks for. */
export interface SimulateOptions {
  readonly from?: string;
  readonly to?: string;
  readonly timeZone?: string;
  readonly quota?: string;
  readonly tenant?: string;
  readonly all?: boolean;
  readonly format: string;
  readonly json?: boolean;
}

/** A policy and where it was read. */
interface Named {
  readonly path: string;
  readonly policy: Policy;
}

const rangeDefault = "30d";
const windowsMax = 200_000;

/** Reads the files, and prints. `againstPath`: the file to compare with. */
export async function simulate(
  reader: LedgerReader,
  { againstPath, path }: { readonly path: string; readonly againstPath: string | undefined },
  options: SimulateOptions,
  io: Io,
): Promise<void> {
  const format = options.json === true ? "json" : options.format;
  if (!(simulateFormats as readonly string[]).includes(format)) {
    throw new UsageError(`Cannot write --format "${format}"`, `wanted one of ${simulateFormats.join(", ")}`);
  }
  const named = namedPolicy(path);
  const range = rangeOf(reader, named.policy, options);
  const work = { reader, range, options, io };
  const found = await windowsOf(named, work, options.all === true || againstPath !== undefined);
  if (againstPath === undefined) printPast(named, found, format, work);
  else {
    const other = namedPolicy(againstPath);
    const before = await windowsOf(other, work, true);
    printChanges(
      { named, other, changes: changesOf(before.windows, found.windows, options.all === true) },
      format,
      work,
    );
  }
  if (format === "table") {
    tell(
      io,
      `${iso(range.from)} to ${iso(range.to)}, limits of this host's part, by the quarter of an hour the ledger is kept in`,
    );
  }
  tellIfEmpty(reader, range, io);
  if (reader.rowsWait)
    tell(
      io,
      "rows of the newest buckets wait in the agent's memory: the disk is nearly full, figures lack them",
    );
}

interface Work {
  readonly reader: LedgerReader;
  readonly range: ReportRange;
  readonly options: SimulateOptions;
  readonly io: Io;
}

/** What a policy made of the range. */
interface Found {
  readonly windows: readonly PastWindow[];
  readonly sums: readonly CounterSum[];
  readonly leftOut: readonly { readonly quota: string; readonly why: string }[];
}

/** The ledger's own rows have the prices: no price file is needed to look at the past. */
function namedPolicy(path: string): Named {
  return { path, policy: readPolicy(path, { hasPrices: true }).policy };
}

function rangeOf(reader: LedgerReader, policy: Policy, options: SimulateOptions): ReportRange {
  const now = Number((reader.time ?? 0n) / 1_000_000n);
  const timeZone = options.timeZone ?? policy.zone;
  return readRange({ ...options, from: options.from ?? rangeDefault, timeZone }, undefined, now);
}

async function windowsOf({ path, policy }: Named, work: Work, all: boolean): Promise<Found> {
  const { io, options, range, reader } = work;
  const quotas = chosenQuotas(policy, options.quota, path);
  const known = quotas.filter(({ per }) => per !== "minute");
  const minutes = quotas.filter(({ per }) => per === "minute");
  const tenant = options.tenant === undefined ? undefined : attributeOf(options.tenant);
  const windows: PastWindow[] = [];
  const sums = new CounterSums();
  const onWindow = (one: PastWindow): void => {
    if (tenant !== undefined && (one.values.tenant ?? one.quota.match.tenant) !== tenant) return;
    sums.add(one);
    if (!all && one.reached.length === 0) return;
    if (windows.length === windowsMax) {
      throw new UsageError(
        `Cannot show more than ${windowsMax} windows`,
        "choose a shorter range, --quota or --tenant, or leave out --all",
      );
    }
    windows.push(one);
  };
  const progress = await progressOn(io);
  const { from, to } = range;
  const cut = readPast(reader, { quotas: known, from, to, onWindow, progress: progress.at });
  progress.end();
  const leftOut = [...minutes.map(minuteLeftOut), ...cut.map(cutLeftOut)];
  for (const { quota, why } of leftOut) tell(io, `${path}: quota ${quota}: ${why}`);
  const most = sums.mostAtOnce;
  if (most > policy.keysMax) {
    tell(
      io,
      `${path}: up to ${most} counters at once, keysMax is ${policy.keysMax}: an agent would count the rest together as "other"`,
    );
  }
  const order = orderOf(quotas);
  const inOrder = sums.all.toSorted((one, other) => order(one.one, other.one));
  return { windows: windows.toSorted(order), sums: inOrder, leftOut };
}

function minuteLeftOut({ name }: Quota): Found["leftOut"][number] {
  const why = "left out, it counts minutes and the ledger is kept in quarters of an hour";
  return { quota: name, why };
}

function cutLeftOut({ from, quota, to, windows }: CutWindows): Found["leftOut"][number] {
  const count = windows === 1 ? "1 window is" : `${windows} windows are`;
  const why = `${count} left out between ${iso(from)} and ${iso(to)}: of that time only whole UTC days are kept`;
  return { quota: quota.name, why };
}

function printPast(named: Named, { leftOut, sums, windows }: Found, format: string, work: Work): void {
  const { io, options } = work;
  if (format === "csv") {
    printLine(io, csv([pastColumns, ...windows.map(pastCells)]));
  } else if (format === "json") {
    const counters = sums.map(sumObject);
    const body = { counters, windows: windows.map(pastObject), left_out: leftOut };
    printLine(io, JSON.stringify({ ...headOf(named), ...rangeObject(work), ...body }, undefined, 2));
  } else {
    printLine(io, sumTable(sums, options.all === true));
    if (windows.length > 0) printLine(io, `\n${windowTable(windows, options.all === true)}`);
    tell(io, describe(named));
  }
}

interface Compared {
  readonly named: Named;
  readonly other: Named;
  readonly changes: readonly Change[];
}

function printChanges({ changes, named, other }: Compared, format: string, work: Work): void {
  const { io } = work;
  if (format === "csv") printLine(io, csv([changeColumns, ...changes.map(changeCells)]));
  else if (format === "json") {
    const files = { before: headOf(other), after: headOf(named) };
    const body = { ...files, ...rangeObject(work), changes: changes.map(changeObject) };
    printLine(io, JSON.stringify(body, undefined, 2));
  } else {
    printLine(io, changes.length === 0 ? "no window would have been another" : changeTable(changes));
    tell(io, `from ${describe(other)}`);
    tell(io, `to ${describe(named)}`);
  }
}

function headOf({ path, policy }: Named): Readonly<Record<string, unknown>> {
  return { file: path, version: policy.version, digest: policy.digest, time_zone: policy.zone };
}

function rangeObject({ range: { from, to } }: Work): Readonly<Record<string, unknown>> {
  return { from: iso(from), to: iso(to) };
}

function describe({ path, policy }: Named): string {
  return `${path}, version ${policy.version}, digest ${policy.digest}, days of ${policy.zone}`;
}
