// What a doctor's check is given and what it says. Ids are stable: documentation and support point at them.
import type { LoadedConfig } from "../../config/load.ts";
import type { SourceContext } from "../../source.ts";
import type { Environment } from "../common/io.ts";

/** How bad a finding is; `skip` where it does not apply. */
export type Verdict = "ok" | "warn" | "fail" | "skip";

/** What one check found. */
export interface Finding {
  readonly id: string;
  /** What the finding is about where a check has several: a server's id, a device. */
  readonly subject?: string;
  readonly verdict: Verdict;
  /** One sentence: what was seen. */
  readonly seen: string;
  /** What to do; present where the verdict is warn or fail. */
  readonly remedy?: string;
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** What every check is given. */
export interface CheckContext extends SourceContext {
  readonly env: Environment;
  /** Absent = the configuration could not be read; checks that need it are skipped. */
  readonly loaded?: LoadedConfig;
  readonly configError?: unknown;
  /** `/` on a real host; tests put a folder with proc/, sys/ and dev/ here. */
  readonly root: string;
}

/** One check, in a file of its own, named after the topic. */
export interface Check {
  /** The ids its findings have, for documentation and `--only`. */
  readonly ids: readonly string[];
  run(context: CheckContext): Promise<readonly Finding[]>;
}

/** The worst verdict of several; `ok` without findings. */
export function worst(findings: readonly Finding[]): Verdict {
  for (const verdict of ["fail", "warn", "ok"] as const) {
    if (findings.some((finding) => finding.verdict === verdict)) return verdict;
  }
  return "ok";
}

/** The promise's result, or an error that says what took longer than `ms`. */
export async function within<T>(
  context: SourceContext,
  ms: number,
  what: string,
  work: Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const late = context.clock.sleep(ms, stop.signal).then(
    () => {
      throw new Error(`${what} took longer than ${ms / 1000} s`);
    },
    () => new Promise<never>(() => {}),
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    stop.abort();
  }
}

/** The message and hint of anything thrown, as a finding's `seen` and `remedy`. */
export function reasonOf(error: unknown): { readonly seen: string; readonly hint: string | undefined } {
  if (!(error instanceof Error)) return { seen: String(error), hint: undefined };
  const hint = (error as { hint?: unknown }).hint;
  return { seen: error.message, hint: typeof hint === "string" ? hint : undefined };
}
