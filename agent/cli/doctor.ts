// `tokenwatt doctor`: everything that can be wrong on this host, each with what was seen and what to do.
// Exits 0 when all is fine, 1 when the worst verdict is a warning, 2 when it is a failure.
import type { Command } from "commander";
import type { Finding, Verdict } from "./checks/check.ts";
import type { ConfigOptions } from "./common/config-options.ts";
import { addConfigOptions } from "./common/config-options.ts";
import { parseDurationMs } from "./common/durations.ts";
import { UsageError } from "./common/errors.ts";
import type { ExitCode, Io } from "./common/io.ts";
import { exitCodes, printLine } from "./common/io.ts";
import type { Measurement } from "./measure/measure.ts";

interface DoctorOptions extends ConfigOptions {
  readonly json?: boolean;
  readonly only?: readonly string[];
  readonly measure?: number;
  readonly root: string;
}

const EXIT_OF: Readonly<Record<Verdict, ExitCode>> = {
  ok: exitCodes.ok,
  skip: exitCodes.ok,
  warn: exitCodes.crashed,
  fail: exitCodes.misconfigured,
};

/** Adds `tokenwatt doctor`. */
export function register(program: Command, io: Io): void {
  const command = addConfigOptions(program.command("doctor"));
  command
    .description("check this host and say what to do")
    .option("--json", "print one JSON object")
    .addOption(
      command
        .createOption(
          "--measure <duration>",
          "also read the GPUs through every backend for this long and hold them against each other",
        )
        .argParser(parseDurationMs),
    )
    .option("--only <ids...>", "only the checks with these ids, or whose ids begin so: gpu, server.reachable")
    .option(
      "--root <folder>",
      "look for proc/, sys/, dev/ and run/ here: a host mounted into a container",
      "/",
    )
    .addHelpText(
      "after",
      `
Exit code: 0 all fine, 1 warnings, 2 failures.

Examples:
  tokenwatt doctor
  tokenwatt doctor --only gpu
  tokenwatt doctor --measure 60s
  tokenwatt doctor --json | jq '.findings[] | select(.verdict == "fail")'`,
    )
    .action((options: DoctorOptions) => doctor(options, io));
}

async function doctor(options: DoctorOptions, io: Io): Promise<void> {
  const { worst } = await import("./checks/check.ts");
  const findings = await examine(options, io);
  const measured =
    options.measure === undefined ? undefined : await measureHost(options, options.measure, io);
  const failed = measured?.lines.some(({ verdict }) => verdict === "fail") === true;
  const verdict = failed ? "fail" : worst(findings);
  if (options.json === true)
    printLine(io, JSON.stringify({ verdict, findings, ...(measured === undefined ? {} : { measured }) }));
  else {
    printLine(io, formatFindings(findings));
    if (measured !== undefined) printLine(io, await formatMeasured(measured));
  }
  io.setExit(EXIT_OF[verdict]);
}

async function measureHost(options: DoctorOptions, ms: number, io: Io): Promise<Measurement> {
  const { loadConfig } = await import("../config/load.ts");
  const { measure } = await import("./measure/measure.ts");
  const { systemClock } = await import("../platform/clock.ts");
  const { silentLog } = await import("../platform/log.ts");
  const loaded = loadConfig({ env: io.env, file: options.config, settings: options.set });
  const stop = new AbortController();
  const context = { clock: systemClock(), log: silentLog, signal: stop.signal };
  return measure(context, loaded, ms, options.root).finally(() => stop.abort());
}

async function formatMeasured({ backends, driver, lines, seconds }: Measurement): Promise<string> {
  const { formatLines } = await import("./measure/compare.ts");
  const hardware =
    driver === undefined
      ? "no kernel driver is loaded here: these figures are of no hardware, and every line needs it"
      : `kernel driver ${driver}`;
  const absent = backends.flatMap(({ name, problem }) =>
    problem === undefined ? [] : [`${name}: ${problem}`],
  );
  return [
    "",
    `measured for ${seconds} s, ${hardware}`,
    formatLines(lines),
    ...absent.map((why) => `not read: ${why}`),
  ].join("\n");
}

async function examine(options: DoctorOptions, io: Io): Promise<readonly Finding[]> {
  const { checks } = await import("./checks/registry.ts");
  const { configCheck } = await import("./checks/config.ts");
  const { systemClock } = await import("../platform/clock.ts");
  const { silentLog } = await import("../platform/log.ts");
  const { loadConfig } = await import("../config/load.ts");
  const { hostNames } = await import("../daemon/host-names.ts");
  const wanted = (id: string): boolean =>
    options.only === undefined || options.only.some((only) => id === only || id.startsWith(`${only}.`));
  const chosen = checks.filter((check) => check.ids.some(wanted));
  if (chosen.length === 0) {
    throw new UsageError(
      "Cannot find a check for --only",
      `ids are ${checks.flatMap((check) => check.ids).join(", ")}`,
    );
  }
  const stop = new AbortController();
  const base = { clock: systemClock(), log: silentLog, signal: stop.signal, env: io.env, root: options.root };
  let configured:
    | { loaded: ReturnType<typeof loadConfig>; hostNames: readonly string[] }
    | { configError: unknown };
  try {
    const loaded = loadConfig({ env: io.env, file: options.config, settings: options.set });
    configured = { loaded, hostNames: hostNames(loaded.config, io.env) };
  } catch (configError) {
    configured = { configError };
    // Whatever was asked for: checks that need the configuration are silent without it, and silence is no verdict.
    if (!chosen.includes(configCheck)) chosen.unshift(configCheck);
  }
  const found = await Promise.all(
    chosen.map(async (check): Promise<readonly Finding[]> => {
      try {
        return await check.run({ ...base, ...configured });
      } catch (error) {
        const seen = `the check itself failed: ${String(error)}`;
        return [{ id: check.ids[0] ?? "doctor", verdict: "fail", seen, remedy: "report this as a bug" }];
      }
    }),
  );
  stop.abort();
  const broken = "configError" in configured;
  return found.flat().filter(({ id }) => wanted(id) || (broken && configCheck.ids.includes(id)));
}

/** The findings as lines for people: verdict, id, what was seen, and what to do below. */
export function formatFindings(findings: readonly Finding[]): string {
  const width = Math.max(0, ...findings.map((finding) => finding.id.length));
  const indent = " ".repeat(width + 8);
  const lines = findings.flatMap(({ id, subject, verdict, seen, remedy }) => {
    const text = subject === undefined ? seen : `${subject}: ${seen}`;
    const first = `${verdict.padEnd(4)}  ${id.padEnd(width)}  ${text.replaceAll("\n", `\n${indent}`)}`;
    return remedy === undefined ? [first] : [first, `${indent}-> ${remedy}`];
  });
  const count = (verdict: Verdict, one: string, many = one): string => {
    const found = findings.filter((finding) => finding.verdict === verdict).length;
    return `${found} ${found === 1 ? one : many}`;
  };
  const counts = [
    count("ok", "ok"),
    count("warn", "warning", "warnings"),
    count("fail", "failure", "failures"),
  ];
  return [...lines, "", [...counts, count("skip", "skipped")].join(", ")].join("\n");
}
