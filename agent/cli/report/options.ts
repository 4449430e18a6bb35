// What `tokenwatt report` was asked for: groups, filters and the family of counters, read from the command line. What a format
// cannot do is refused here: an option that is passed over in silence would give a bill of something else.
import type { PeriodUnit } from "../../meter/figures/calendar.ts";
import type { Group, ReportSource } from "../../meter/figures/report-plan.ts";
import { UsageError } from "../common/errors.ts";
import type { Question } from "./groups.ts";

/** The formats of a report. */
export const reportFormats = ["table", "csv", "json", "html", "focus", "cloudevents"] as const;
/** One of them. */
export type ReportFormat = (typeof reportFormats)[number];

const UNITS: readonly string[] = ["hour", "day", "week", "month"];
const GROUPS: readonly string[] = [
  ...["tenant", "model", "endpoint", "gpu_type", "gpu", "server", "kind", "outcome", "state"],
  "power_limit",
];

/** What a format or a kind of report cannot do. */
interface Asked {
  readonly format: ReportFormat;
  readonly groups: readonly Group[];
  readonly where: Question["where"];
  readonly options: {
    readonly sort?: string;
    readonly top?: string;
    readonly waste?: boolean;
    readonly reprice?: string;
    readonly source?: string;
  };
}

const boardGroups: readonly Group[] = ["server", "gpu", "gpu_type"];

/** Throws UsageError for options that would be passed over. */
export function refuseWhatIsNotDone({ format, groups, options, where }: Asked): void {
  const { reprice, sort, top, waste } = options;
  const isExchange = format === "focus" || format === "cloudevents" || format === "html";
  if (waste === true && isExchange) {
    throw new UsageError(`Cannot write --waste as ${format}`, "wanted --format table, csv or json");
  }
  if (waste === true && reprice !== undefined) {
    throw new UsageError(
      "Cannot reprice --waste: it holds costs, and --reprice changes revenue",
      "use one of both",
    );
  }
  const other = [...groups, ...where.map(([group]) => group)].find((group) => !boardGroups.includes(group));
  if (waste === true && other !== undefined) {
    throw new UsageError(`Cannot tell --waste apart by ${other}`, `wanted ${boardGroups.join(", ")}`);
  }
  if (format === "html" && groups.length > 0) {
    throw new UsageError(
      `Cannot group --format html by ${groups.join(", ")}: it has parts of its own by model, GPU type, tenant and GPU`,
      `wanted one of ${UNITS.join(", ")}`,
    );
  }
  if (format === "html" && options.source !== undefined) {
    throw new UsageError("Cannot choose a --source with --format html: it shows both", "leave it out");
  }
  if (isExchange && (sort !== undefined || top !== undefined)) {
    throw new UsageError(
      `Cannot use --sort or --top with --format ${format}: it holds every row`,
      "leave them out",
    );
  }
}

/** Groups and the calendar unit of `--by`. */
export function readGroups(text: string): {
  readonly groups: readonly Group[];
  readonly unit: PeriodUnit | undefined;
} {
  const words = text
    .split(",")
    .map((word) => word.trim().replaceAll("-", "_"))
    .filter((word) => word !== "");
  const wrong = words.filter((word) => !GROUPS.includes(word) && !UNITS.includes(word));
  if (wrong.length > 0) {
    throw new UsageError(
      `Cannot group by "${wrong.join('", "')}"`,
      `known: ${[...UNITS, ...GROUPS].join(", ")}`,
    );
  }
  const units = words.filter((word) => UNITS.includes(word));
  if (units.length > 1)
    throw new UsageError(`Cannot group by ${units.join(" and ")} at once`, "name one of them");
  const groups = [...new Set(words.filter((word) => GROUPS.includes(word)))] as Group[];
  return { groups, unit: units[0] as PeriodUnit | undefined };
}

/** One `--where group=name`. */
export function readWhere(text: string): readonly [Group, string] {
  const place = text.indexOf("=");
  const group = text.slice(0, Math.max(0, place)).trim().replaceAll("-", "_");
  if (place > 0 && GROUPS.includes(group)) return [group as Group, text.slice(place + 1)];
  throw new UsageError(
    `Cannot read --where "${text}"`,
    `wanted group=name, for example tenant=acme; groups: ${GROUPS.join(", ")}`,
  );
}

/** `--source`, undefined where it is not given. */
export function readSource(given: string | undefined): ReportSource | undefined {
  if (given === undefined || given === "engine" || given === "gateway") return given;
  throw new UsageError(`Cannot use --source "${given}"`, "wanted engine or gateway");
}
