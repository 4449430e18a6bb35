// The lines of `npm run pack`, and on a terminal a bar below them while something takes long.
import { startProgress } from "../../agent/cli/common/progress.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import type { PackOptions } from "./options.ts";

/** Says what is done, one line each. */
export interface PackBar {
  /** One more artefact is made. */
  step(line: string): void;
  end(): void;
}

const REDRAW_MS = 200;

/** A bar over everything these options ask for. */
export function startPackBar({ arch, only }: Pick<PackOptions, "arch" | "only">): PackBar {
  const perArchitecture = only.filter(
    (kind) => kind === "tarball" || kind === "deb" || kind === "rpm",
  ).length;
  const once = only.filter((kind) => kind === "oci" || kind === "npm").length;
  const all = 1 + arch.length * perArchitecture + once;
  const progress = startProgress({ stderr: process.stderr, env: process.env, clock: systemClock() });
  let done = 0;
  const draw = (): void => progress.at(done / all, `${done} of ${all} done`);
  const timer = setInterval(draw, REDRAW_MS);
  timer.unref();
  return {
    step: (line) => {
      done++;
      progress.end();
      console.error(line);
    },
    end: () => {
      clearInterval(timer);
      progress.end();
    },
  };
}
