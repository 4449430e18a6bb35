// One GPU as the reader child holds it: handle, identity, what it cannot do and why, and its buffers.
// Every NVML call goes through `ask`, which turns the return code into one of three outcomes or a thrown NvmlFailure.
import { CODE, codeHint, codeName, meaning } from "../codes.ts";
import type { Failure } from "../protocol.ts";
import { DriverClock } from "./driver-clock.ts";
import { Cell, MEMORY } from "./layouts.ts";
import type { Nvml } from "./library.ts";

/** A code that concerns more than one reading: this GPU is lost, its handle is stale, or the library must restart. */
export class NvmlFailure extends Error {
  readonly code: number;
  readonly call: string;

  constructor(call: string, code: number) {
    super(`${call} returned ${codeName(code)}`);
    this.name = "NvmlFailure";
    this.call = call;
    this.code = code;
  }

  get failure(): Failure {
    const hint = codeHint(this.code);
    return { code: this.code, message: this.message, ...(hint === undefined ? {} : { hint }) };
  }
}

/** ok; empty = nothing to report now; absent = this GPU cannot say, its reason is remembered. */
export type Outcome = "ok" | "empty" | "absent";

/** Asks again after this many refusals were skipped, for codes that may heal (999 on one call of a live GPU). */
const RETRY_AFTER = 300;

/** A GPU or MIG instance. */
export class Device {
  readonly handle: number;
  readonly uuid: string;
  readonly index: number;
  /** The board's device under MIG. */
  readonly parent: Device | undefined;
  readonly gpuInstance: number | undefined;
  /** Capability -> why it cannot be read. */
  readonly unsupported = new Map<string, string>();
  readonly utilizationClock = new DriverClock();
  readonly powerClock = new DriverClock();
  readonly processClock = new DriverClock();
  /** Newest driver stamp taken, per ring, in the driver's clock. */
  readonly lastSeen = { utilization: 0, power: 0, processes: 0 };
  /** Our instant of the newest point taken, per ring: a history read again is not taken twice. */
  readonly taken = { utilization: 0, power: 0, processes: 0 };
  /** Polls in a row that brought nothing new, per ring. */
  readonly quiet = { utilization: 0, power: 0, processes: 0 };
  readonly #retryIn = new Map<string, number>();
  readonly #probe = new Cell(MEMORY.size);

  constructor(identity: {
    handle: number;
    uuid: string;
    index: number;
    parent?: Device;
    gpuInstance?: number;
  }) {
    this.handle = identity.handle;
    this.uuid = identity.uuid;
    this.index = identity.index;
    this.parent = identity.parent;
    this.gpuInstance = identity.gpuInstance;
  }

  /** Whether a capability is worth asking. */
  can(capability: string): boolean {
    const left = this.#retryIn.get(capability);
    if (left === undefined) return !this.unsupported.has(capability);
    if (left > 0) {
      this.#retryIn.set(capability, left - 1);
      return false;
    }
    this.#retryIn.delete(capability);
    this.unsupported.delete(capability);
    return true;
  }

  /** Remembers that a capability cannot be read until the GPUs are enumerated again. */
  refuse(capability: string, reason: string, retry = false): void {
    this.unsupported.set(capability, reason);
    if (retry) this.#retryIn.set(capability, RETRY_AFTER);
  }

  /**
   * Judges the code a call for a capability returned. Throws NvmlFailure for codes that concern the whole GPU or the
   * library; a lifecycle or stale code on a GPU that otherwise answers only silences this capability for a while.
   */
  judge(nvml: Nvml, capability: string, call: string, code: number): Outcome {
    const means = meaning(code);
    if (means === "ok") return "ok";
    if (means === "empty") return "empty";
    if (means === "unsupported" || means === "permission") {
      const hint = codeHint(code);
      this.refuse(capability, `${call}: ${codeName(code)}${hint === undefined ? "" : `; ${hint}`}`);
      return "absent";
    }
    if (means !== "lost" && this.answers(nvml)) {
      this.refuse(capability, `${call}: ${codeName(code)}, asked again later`, true);
      return "absent";
    }
    throw new NvmlFailure(call, code);
  }

  /** Whether the GPU still answers its simplest question. */
  answers(nvml: Nvml): boolean {
    const code = nvml.call("nvmlDeviceGetMemoryInfo", this.handle, this.#probe);
    return code === CODE.success || meaning(code) === "unsupported";
  }
}
