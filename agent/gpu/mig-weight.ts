// The share of its board a MIG instance has, where the driver's attributes are not at hand: from the profile's name and
// the slices of the board's full profile. Products and slices: NVIDIA's MIG User Guide, "Supported GPUs" and "Supported
// MIG Profiles" (610). A product that is not in it is measured by memory: a slice of seven holds an eighth of it. What cannot
// be derived is not known: a share that was guessed would be billed.
import type { GpuInfo } from "../model.ts";

/** Slices of the full profile by product name, first match. */
const PRODUCTS: readonly (readonly [name: RegExp, slices: number])[] = [
  [/\bA30\b/, 4],
  [/\bRTX PRO 6000\b/i, 4],
  [/\bRTX PRO (5000|4500)\b/i, 2],
  [/\bThor\b/i, 2],
  [/\b(PG506|A100X?|A800|H100|H800|H20|H200|GH200|B100|B200|B300|GB200|GB300)\b/, 7],
];
const GIB = 2 ** 30;

/** What a profile such as `3g.40gb`, `1g.10gb+me` or `1c.3g.40gb` says. */
interface Profile {
  readonly gpuSlices: number;
  /** Compute slices of the GPU instance's; all of them where the name does not say. */
  readonly computeSlices: number;
  readonly gibibytes: number;
}

/** The share of the board; undefined where the profile or the board's slices are not known. */
export function migWeight(
  profile: string | undefined,
  board: Pick<GpuInfo, "name" | "memoryTotalBytes">,
): number | undefined {
  const parsed = parseProfile(profile);
  if (parsed === undefined) return undefined;
  const slices = slicesOf(board, parsed);
  // A profile larger than the board is of another board than the one we think it is.
  return slices === undefined || parsed.gpuSlices > slices ? undefined : parsed.computeSlices / slices;
}

/** The profile's name where it is one; undefined for blanks such as `<<<NULL>>>`. */
export function profileName(text: string | undefined): string | undefined {
  return parseProfile(text) === undefined ? undefined : text;
}

function parseProfile(text: string | undefined): Profile | undefined {
  const match = /^(?:(\d)c\.)?(\d)g\.(\d+)gb(?:[+-][a-z.]+)*$/.exec(text ?? "");
  if (match === null) return undefined;
  const gpuSlices = Number(match[2]);
  const computeSlices = Number(match[1] ?? match[2]);
  return gpuSlices >= 1 && computeSlices >= 1 && computeSlices <= gpuSlices
    ? { gpuSlices, computeSlices, gibibytes: Number(match[3]) }
    : undefined;
}

function slicesOf(
  { memoryTotalBytes, name }: Pick<GpuInfo, "name" | "memoryTotalBytes">,
  { gibibytes, gpuSlices }: Profile,
): number | undefined {
  const known = PRODUCTS.find(([product]) => product.test(name))?.[1];
  if (known !== undefined) return known;
  if (gpuSlices === 7) return 7;
  if (memoryTotalBytes === undefined || gibibytes === 0) return undefined;
  // Memory slices the board would have if each slice of the profile held one.
  const parts = Math.round((memoryTotalBytes / GIB / gibibytes) * gpuSlices);
  if (parts === 8 || (gpuSlices === 3 && parts === 6)) return 7;
  // One slice with a quarter of the memory is also how a board of seven names a slice with twice its memory.
  return gpuSlices > 1 && (parts === 4 || parts === 2) ? parts : undefined;
}

/** A board's instances, with the share of each if all are known. */
export type Shares<Instance> =
  | { readonly instances: readonly (Instance & { readonly weight: number })[] }
  | { readonly unknown: string };

/**
 * The instances of one board with their shares. When one is not known none is used: the board is then metered as one GPU,
 * for a remainder with an unknown part would be called free.
 */
export function sharesOf<Instance extends { readonly index: number; readonly migProfile?: string }>(
  board: Pick<GpuInfo, "name" | "memoryTotalBytes">,
  instances: readonly Instance[],
): Shares<Instance> {
  const weighed = instances.map((instance) => ({
    ...instance,
    weight: migWeight(instance.migProfile, board) ?? Number.NaN,
  }));
  const unknown = weighed.filter(({ weight }) => Number.isNaN(weight));
  if (unknown.length === 0) return { instances: weighed };
  const names = unknown.map(({ index, migProfile }) => `${index} (${migProfile ?? "no profile"})`).join(", ");
  return {
    unknown: `the share of MIG instance ${names} of ${board.name} is not known: the board is metered as one GPU`,
  };
}
