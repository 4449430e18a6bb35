// A running agent as JSON lines: what `--json` prints, and what is printed off a terminal.
import type { LiveGpu, LiveRow } from "./figures.ts";

/** What one line says. */
export interface LiveScreen {
  readonly elapsedSeconds: number;
  readonly gpus: readonly LiveGpu[];
  readonly host: LiveRow;
  /** A server was read often enough for a rate of tokens. */
  readonly isCounted: boolean;
}

/** One JSON line. */
export function screenLine(screen: LiveScreen, extra: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({
    type: "second",
    elapsed_seconds: round(screen.elapsedSeconds, 3),
    ...jsonFigures(screen.host, screen.isCounted),
    gpus: screen.gpus.map((gpu) => ({
      gpu: gpu.info.uuid,
      model: gpu.info.name,
      state: gpu.history.at(-1) ?? null,
      utilization: gpu.utilizationRatio ?? null,
      power_watts: gpu.powerWatts === undefined ? null : round(gpu.powerWatts, 1),
      ...jsonFigures(gpu, screen.isCounted),
    })),
    ...extra,
  });
}

function jsonFigures(row: LiveRow, isCounted: boolean): Record<string, unknown> {
  return {
    state_seconds: row.seconds,
    tokens_per_second: isCounted ? round(row.tokensPerSecond, 1) : null,
    tokens_per_gpu_hour:
      !isCounted || row.tokensPerGpuHour === undefined ? null : Math.round(row.tokensPerGpuHour),
    token_active_utilization:
      row.tokenActiveUtilization === undefined ? null : round(row.tokenActiveUtilization, 4),
    tokens_per_joule: !isCounted || row.tokensPerJoule === undefined ? null : round(row.tokensPerJoule, 3),
  };
}

function round(value: number, digits: number): number {
  const scale = 10 ** digits;
  return Math.round(value * scale) / scale;
}
