// The host that the demo plays: eight boards made of pieces of three recorded H100 runs. Four engines, a gateway with tenants,
// a training job, a board in MIG mode, a model that waits, a free board, and a board that is lost for a while.
// Everything measured is as recorded; who asked, and which board it was, is made up.
import { fileURLToPath } from "node:url";
import type { GpuInfo } from "../../model.ts";

/** The recordings, beside agent/ in the source tree and beside the bundle when packed. */
export const recordingsFolder = fileURLToPath(new URL("../../../deploy/demo", import.meta.url));

/** One of the recordings. */
export type RecordingName = "h100-solo-8b" | "h100-shared-8b-1b" | "h100-low-load-1b";

/** A piece of a recording in seconds since its first reading of the GPU. */
export interface ScenePiece {
  readonly recording: RecordingName;
  readonly from: number;
  readonly to: number;
  /** Seconds into the piece at which the scene begins. */
  readonly offset?: number;
}

/** A board, or an instance of one. */
export interface SceneGpu extends ScenePiece {
  readonly info: GpuInfo;
  /** Added to recorded process ids: two boards that play one recording hold two processes. */
  readonly pids: number;
  /** `board`: a MIG board, whose processes are on its instances. `instance`: what such a board does not say of them is left out. */
  readonly mig?: "board" | "instance";
  readonly lost?: Lost;
}

/** Seconds of the scene in which a board does not answer and whatever runs on it stands still, again every so many. */
export interface Lost {
  readonly from: number;
  readonly to: number;
  readonly every: number;
}

/** An engine. */
export interface SceneServer extends ScenePiece {
  readonly id: string;
  readonly model: string;
  /** Its file in the recording. */
  readonly file: string;
  readonly gpus: readonly string[];
  readonly pids: number;
  /** The product endpoint at the gateway, of this engine alone; absent = nothing asks it through the gateway. */
  readonly endpoint?: string;
  /** Its board is lost. */
  readonly lost?: Lost;
}

/** A customer at the gateway. */
export interface SceneTenant {
  readonly name: string;
  /** Share of what each engine does. */
  readonly share: number;
  /** Share of its requests that fail. */
  readonly errors: number;
  /** Requests that are refused in each second of the rush that comes every three minutes. */
  readonly refusedPerSecond?: number;
}

const H100 = "NVIDIA H100 80GB HBM3";

function board(index: number, more: Partial<GpuInfo> = {}): GpuInfo {
  const uuid = `GPU-${String(index).repeat(8)}-0000-4000-8000-${String(index).repeat(12)}`;
  const facts = { memoryTotalBytes: 85_520_809_984, powerLimitWatts: 700, driverVersion: "580.159.04" };
  return { uuid, index, name: H100, weight: 1, ...facts, ...more };
}

/** Three of seven slices; the seventh slice of the board is nobody's. */
function instance(parent: GpuInfo, number: number): GpuInfo {
  const uuid = `MIG-${String(number).repeat(8)}-0000-5000-8000-${String(parent.index).repeat(12)}`;
  const memoryTotalBytes = 42_412_802_048;
  const { index, name } = parent;
  return { uuid, parent: parent.uuid, index, name, weight: 3 / 7, migProfile: "3g.40gb", memoryTotalBytes };
}

const BUSY: ScenePiece = { recording: "h100-solo-8b", from: 17, to: 100 };
const SHARED: ScenePiece = { recording: "h100-shared-8b-1b", from: 5, to: 38 };
const LIGHT: ScenePiece = { recording: "h100-low-load-1b", from: 24, to: 104 };
const TRAINING: ScenePiece = { recording: "h100-solo-8b", from: 20, to: 44 };
const WAITING: ScenePiece = { recording: "h100-low-load-1b", from: 56, to: 60 };
const LOST: Lost = { from: 60, to: 90, every: 240 };
const FREE: ScenePiece = { recording: "h100-solo-8b", from: 114, to: 124 };

const boards = Array.from({ length: 8 }, (_, index) => board(index));
const [g0, g1, g2, g3, g4, g5, g6, g7] = boards as [
  GpuInfo,
  GpuInfo,
  GpuInfo,
  GpuInfo,
  GpuInfo,
  GpuInfo,
  GpuInfo,
  GpuInfo,
];
const small = instance(g4, 1);
const spare = instance(g4, 2);

/** The boards of the host. */
export const sceneGpus: readonly SceneGpu[] = [
  { info: g0, ...BUSY, pids: 10_000 },
  { info: g1, ...SHARED, pids: 11_000 },
  { info: g2, ...LIGHT, pids: 12_000 },
  { info: g3, ...TRAINING, pids: 13_000 },
  { info: g4, ...LIGHT, offset: 30, pids: 14_000, mig: "board" },
  { info: small, ...LIGHT, offset: 30, pids: 14_000, mig: "instance" },
  { info: spare, ...FREE, pids: 14_500, mig: "instance" },
  { info: g5, ...WAITING, pids: 15_000 },
  { info: g6, ...FREE, pids: 16_000 },
  { info: g7, ...BUSY, offset: 40, pids: 17_000, lost: LOST },
];

/** The engines; the one on the last board is asked by nobody through the gateway. */
export const sceneServers: readonly SceneServer[] = [
  {
    id: "decoder-8b",
    model: "decoder-8b",
    ...BUSY,
    file: "tokens.jsonl.gz",
    gpus: [g0.uuid],
    pids: 10_000,
    endpoint: "chat",
  },
  {
    id: "shared-8b",
    model: "decoder-8b",
    ...SHARED,
    file: "tokens-8b.jsonl.gz",
    gpus: [g1.uuid],
    pids: 11_000,
    endpoint: "canary",
  },
  {
    id: "shared-1b",
    model: "drafter-1b",
    ...SHARED,
    file: "tokens-1b.jsonl.gz",
    gpus: [g1.uuid],
    pids: 11_000,
    endpoint: "complete",
  },
  {
    id: "assist-1b",
    model: "assist-1b",
    ...LIGHT,
    file: "tokens.jsonl.gz",
    gpus: [g2.uuid],
    pids: 12_000,
    endpoint: "assist",
  },
  {
    id: "edge-1b",
    model: "assist-1b",
    ...LIGHT,
    offset: 30,
    file: "tokens.jsonl.gz",
    gpus: [small.uuid],
    pids: 14_000,
    endpoint: "edge",
  },
  { id: "spare-1b", model: "assist-1b", ...WAITING, file: "tokens.jsonl.gz", gpus: [g5.uuid], pids: 15_000 },
  {
    id: "batch-8b",
    model: "decoder-8b",
    ...BUSY,
    offset: 40,
    file: "tokens.jsonl.gz",
    gpus: [g7.uuid],
    pids: 17_000,
    endpoint: "batch",
    lost: LOST,
  },
];

/** Who asks at the gateway. */
export const sceneTenants: readonly SceneTenant[] = [
  { name: "acme", share: 0.46, errors: 0.004 },
  { name: "globex", share: 0.3, errors: 0.012, refusedPerSecond: 4 },
  { name: "initech", share: 0.16, errors: 0.002 },
  { name: "umbrella", share: 0.08, errors: 0.06 },
];

/** Seconds of the scene in which one tenant asks for more than it may have. */
export const sceneRush = { from: 90, to: 120, every: 180 } as const;

/** The processes of the training job: as a cgroup of Slurm would name them. */
export const trainingHolder = { kind: "job", name: "4711", account: "research", user: "mira" } as const;

/** Board whose processes train. */
export const trainingGpu: SceneGpu = sceneGpus[3] as SceneGpu;
