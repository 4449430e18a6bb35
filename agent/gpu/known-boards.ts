// The GPUs of a source over its life. A board that is no longer listed has not become idle: it fell off the bus, its page
// stopped naming it, or its row cannot be read. It stays known, its time is unobserved, and rent goes on. MIG instances
// come and go by reconfiguration: they end with the listing of their board that lacks them.
import type { Gap, GpuInfo, Nanos } from "../model.ts";

/** What a board that left is said to be. */
const LEFT = "is no longer listed: it fell off the bus, or the driver or its exporter stopped counting it";

/** The GPUs that were ever listed, each with the reason why it cannot be read, if it cannot. */
export class KnownBoards {
  readonly #infos = new Map<string, GpuInfo>();
  readonly #left = new Set<string>();

  get infos(): readonly GpuInfo[] {
    return [...this.#infos.values()];
  }

  /** UUIDs of boards, and of instances on them, that were listed before and are not now. */
  get left(): ReadonlySet<string> {
    return this.#left;
  }

  /**
   * Takes a listing over; true when the GPUs, or what is fixed about one, changed. A GPU counted without a UUID is
   * replaced by the one that is listed in its place.
   */
  take(listed: readonly GpuInfo[]): boolean {
    const before = this.#fingerprint();
    const readable = listed.filter((info) => !isUnread(info));
    const named = new Set(readable.map(({ uuid }) => uuid));
    for (const info of this.infos) {
      if (named.has(info.uuid)) continue;
      const replaced = isUnread(info) && readable.some((other) => samePlace(info, other));
      const reconfigured = info.parent !== undefined && named.has(info.parent);
      if (replaced || reconfigured) this.#infos.delete(info.uuid);
    }
    for (const info of readable) this.#infos.set(info.uuid, info);
    for (const unread of listed.filter(isUnread)) {
      // The board that was listed in this place before is the one that does not answer now.
      const known = this.infos.find((info) => !named.has(info.uuid) && samePlace(unread, info)) ?? unread;
      const reason = unread.unreadable ?? "does not answer";
      this.#infos.set(known.uuid, { ...known, unreadable: reason });
      named.add(known.uuid);
    }
    this.#left.clear();
    for (const { uuid } of this.infos) if (!named.has(uuid)) this.#left.add(uuid);
    return this.#fingerprint() !== before;
  }

  get(uuid: string): GpuInfo | undefined {
    return this.#infos.get(uuid);
  }

  /** A reading of this GPU came: whatever was wrong with it is over. */
  markRead(uuid: string): void {
    this.#left.delete(uuid);
    const info = this.#infos.get(uuid);
    if (info?.unreadable === undefined) return;
    const { unreadable, ...rest } = info;
    this.#infos.set(uuid, rest);
  }

  /** A gap for every known GPU that `silent` has a reason for; a board that left always is one. */
  gaps(at: Nanos, silent: (info: GpuInfo) => string | undefined): readonly Gap[] {
    return this.infos.flatMap((info) => {
      const reason =
        info.unreadable ??
        silent(info) ??
        (this.#left.has(info.uuid) ? `${labelOf(info)} ${LEFT}` : undefined);
      return reason === undefined
        ? []
        : [{ source: `gpu:${info.uuid}`, at, reason, ...gapHint(reason, info) }];
    });
  }

  /** Not the reasons for missing readings, which come and go. */
  #fingerprint(): string {
    return JSON.stringify(this.infos.map(({ unsupported, unreadable, ...fixed }) => fixed));
  }
}

const BUS = "look for XID and NVRM messages in `dmesg`; a GPU that fell off the bus comes back with a reboot";

/** What to do about a GPU that cannot be read for that reason, as a gap carries it. */
export function gapHint(
  reason: string,
  { index, pciBusId }: Pick<GpuInfo, "index" | "pciBusId">,
): { readonly hint?: string } {
  const place = index >= 0 ? index : pciBusId;
  if (/reset/i.test(reason))
    return {
      hint: `reset it with \`nvidia-smi --gpu-reset -i ${place}\` once no process holds it, or reboot`,
    };
  return /lost|unknown error|bus|handle|place of/i.test(reason) ? { hint: BUS } : {};
}

/** A GPU that is counted but does not say who it is: an index or a bus address stands for its UUID. */
export function unreadGpu(place: number | string, reason: string): GpuInfo {
  const uuid = typeof place === "number" ? `index-${place}` : `pci-${place}`;
  return {
    uuid,
    index: typeof place === "number" ? place : -1,
    name: "unknown",
    weight: 1,
    unreadable: reason,
    ...(typeof place === "number" ? {} : { pciBusId: place }),
  };
}

/** Whether only the place of this GPU is known. */
export function isUnread({ uuid }: GpuInfo): boolean {
  return /^(index|pci)-/.test(uuid);
}

/** `GPU 3` where the index says more than the UUID. */
function labelOf({ index, uuid }: GpuInfo): string {
  return index >= 0 ? `GPU ${index}` : uuid;
}

/** Whether a GPU that is known by its place only is in the place of another. */
export function samePlace(unread: GpuInfo, other: GpuInfo): boolean {
  if (other.parent !== undefined) return false;
  if (unread.uuid === other.uuid) return true;
  return unread.index >= 0 ? unread.index === other.index : busOf(unread) === busOf(other);
}

/** Tools print the domain of a bus address with four or eight digits. */
function busOf({ pciBusId }: GpuInfo): string | undefined {
  return pciBusId?.toUpperCase().replace(/^0+(?=[0-9A-F]{4}:)/, "");
}
