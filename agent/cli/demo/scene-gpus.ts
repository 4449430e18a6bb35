// The boards of the scene as a GPU source: each plays its piece of a recording, whose energy counter goes on from round to round
// and whose processes have ids of their own. A reading carries every line since the one before, as a driver's history would.
import type { RecordedLine } from "../../gpu/replay.ts";
import { historyOf, readGpus, readingOf } from "../../gpu/replay.ts";
import type { Gap, GpuSample, Nanos } from "../../model.ts";
import type { Clock } from "../../platform/clock.ts";
import type { JsonLine } from "../../recording/files.ts";
import type { GpuPoll, GpuSource } from "../../source.ts";
import type { Piece, Place } from "./cycle.ts";
import { countedBy, elapsedAt, placeAt, playedBy } from "./cycle.ts";
import type { RecordingName, SceneGpu, ScenePiece } from "./scene.ts";
import { recordingsFolder } from "./scene.ts";

interface Track {
  readonly gpu: SceneGpu;
  readonly piece: Piece;
  readonly lines: readonly RecordedLine[];
  /** How far into the scene it was read. */
  read: number;
}

const folders = new Map<RecordingName, readonly RecordedLine[]>();

function linesOf(recording: RecordingName): readonly RecordedLine[] {
  const known = folders.get(recording) ?? readGpus(`${recordingsFolder}/${recording}`).gpus[0]?.lines ?? [];
  folders.set(recording, known);
  return known;
}

/** A piece of a scene in the time of its recording. */
export function pieceOf({ from, offset = 0, recording, to }: ScenePiece): Piece {
  const first = linesOf(recording)[0]?.micros ?? 0;
  return { from: first + from * 1e6, to: first + to * 1e6, offset: offset * 1e6 };
}

/** The boards, played from `origin` on. */
export function openSceneGpus(gpus: readonly SceneGpu[], clock: Clock, origin: Nanos): GpuSource {
  const tracks = gpus.map((gpu): Track => {
    const piece = pieceOf(gpu);
    const lines = linesOf(gpu.recording).filter(({ micros }) => micros >= piece.from && micros < piece.to);
    return { gpu, piece, lines, read: -1 };
  });
  return {
    backend: "replay",
    generation: 0,
    inventory: async () => gpus.map(({ info }) => info),
    poll: async (): Promise<GpuPoll> => {
      const now = clock.now();
      const elapsed = Math.floor((now - origin) / 1000);
      const [samples, gaps]: [GpuSample[], Gap[]] = [[], []];
      for (const track of elapsed < 0 ? [] : tracks) {
        const { uuid } = track.gpu.info;
        const played = playedBy(track.gpu.lost, elapsed);
        if (isLost(track.gpu, elapsed / 1e6)) gaps.push({ source: `gpu:${uuid}`, at: now, reason: LOST });
        else {
          const sample = readTrack(
            track,
            played,
            origin + 1000 * (elapsed - played),
            lossesBy(track.gpu, elapsed / 1e6),
          );
          if (sample !== undefined) samples.push(sample);
        }
        track.read = played;
      }
      return { sent: now, received: now, samples, gaps };
    },
    close: async () => {},
    status: () => ({ problems: 0 }),
  };
}

const LOST = "the GPU is lost (NVML error 15)";

function isLost({ lost }: SceneGpu, seconds: number): boolean {
  return lost !== undefined && seconds % lost.every >= lost.from && seconds % lost.every < lost.to;
}

/** How often it was lost: each time its counters begin anew. */
function lossesBy({ lost }: SceneGpu, seconds: number): number {
  return lost === undefined ? 0 : Math.max(0, Math.floor((seconds - lost.from) / lost.every) + 1);
}

/** The newest line since the last reading, with the others as its history. */
function readTrack(
  { gpu, lines, piece, read }: Track,
  elapsed: number,
  origin: Nanos,
  epoch: number,
): GpuSample | undefined {
  const end = placeAt(piece, elapsed);
  const since = placeAt(piece, Math.max(0, read));
  const news: { readonly entry: RecordedLine; readonly place: Place }[] = [];
  for (let round = since.round; round <= end.round; round++) {
    for (const entry of lines) {
      const place = { round, micros: entry.micros };
      const at = elapsedAt(piece, place);
      if (at > read && at <= elapsed) news.push({ entry, place });
    }
  }
  const last = news.at(-1);
  if (last === undefined) return undefined;
  const instantOf = (place: Place): Nanos => origin + 1000 * elapsedAt(piece, place);
  const energy = (micros: number): number => energyAt(lines, micros);
  const at = elapsedAt(piece, last.place);
  const line = dressed(gpu, {
    ...last.entry.line,
    energy_mj: 1_000_000 + Math.round(countedBy(piece, at, energy)),
  });
  const instants = new Map(news.map(({ entry, place }) => [entry, instantOf(place)]));
  const history =
    gpu.mig === "instance"
      ? {}
      : historyOf(
          news.map(({ entry }) => entry),
          (entry) => instants.get(entry) ?? 0,
        );
  return { ...readingOf(gpu.info.uuid, line, instantOf(last.place), epoch), ...history };
}

/** The energy counter of the last line at or before; the piece's end stands for its last line. */
function energyAt(lines: readonly RecordedLine[], micros: number): number {
  let [low, high] = [0, lines.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((lines[middle]?.micros ?? 0) <= micros) low = middle + 1;
    else high = middle;
  }
  return Number(lines[Math.max(0, low - 1)]?.line["energy_mj"] ?? 0);
}

/** The line with the board's own process ids, and without what MIG does not say. */
function dressed({ mig, pids }: SceneGpu, line: JsonLine): JsonLine {
  const moved = (value: unknown): unknown =>
    Array.isArray(value) ? value.map((one: JsonLine) => ({ ...one, pid: Number(one["pid"]) + pids })) : value;
  const own = {
    processes: moved(line["processes"]),
    process_utilization: moved(line["process_utilization"]),
  };
  if (mig === "board")
    return {
      ...line,
      processes: [],
      process_utilization: [],
      gpu_util_pct: undefined,
      mem_util_pct: undefined,
    };
  if (mig !== "instance") return { ...line, ...own };
  const { gpm, mem_used_bytes, t } = line;
  return { t, gpm, mem_used_bytes, ...own };
}
