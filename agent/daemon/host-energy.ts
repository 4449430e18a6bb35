// Books the host's own energy beside that of its GPUs: hw.host.energy and hw.host.power from a meter where there is one,
// tokenwatt.facility.energy where the site's factors are configured. Never added to GPU energy (METERING.md 5).

import type { HostConfig } from "../host/config.ts";
import type { HostPower } from "../host/power/power.ts";
import { openHostPower } from "../host/power/power.ts";
import type { Gauge, Posting, SettledInterval } from "../model.ts";
import type { Cancel } from "../platform/clock.ts";
import { every } from "../platform/clock.ts";
import type { SourceContext } from "../source.ts";

const METHOD = "tokenwatt.method";

/** Where its movements go: the ledger. */
export interface HostBooks {
  bookPostings(postings: readonly Posting[], at: number): void;
  observe(gauge: Gauge): void;
}

/** Polls the host's meter once started. */
export class HostMeter {
  readonly #context: SourceContext;
  readonly #config: HostConfig;
  readonly #books: HostBooks;
  #power: HostPower | undefined;
  #missing: Readonly<Record<string, string>> = {};
  #cancel: Cancel | undefined;
  #stopped = false;
  #last: number | undefined;
  /** Parts of a millijoule that wait for the next posting, by metric. */
  readonly #carried = new Map<string, number>();

  constructor(context: SourceContext, config: HostConfig, books: HostBooks) {
    this.#context = context;
    this.#config = config;
    this.#books = books;
  }

  /** Looks for a meter and reads it from then on; the result ends that. Without a meter it does nothing. */
  start(): Cancel {
    void this.#open();
    return () => {
      this.#stopped = true;
      this.#cancel?.();
    };
  }

  /** Models the facility from GPU energy where the node itself is not measured. */
  bookInterval(interval: SettledInterval): void {
    if (this.#measuresNode()) return;
    const millijoules = interval.gpus.reduce(
      (sum, gpu) => sum + Object.values(gpu.millijoules).reduce((total, part) => total + part, 0),
      0,
    );
    this.#bookFacility({ gpuJoules: millijoules / 1000 }, interval.to);
  }

  /** For `/-/status`: the meter that answered, or why none did. */
  status(): Readonly<Record<string, unknown>> {
    return this.#power?.status() ?? { method: "none", missing: this.#missing };
  }

  async #open(): Promise<void> {
    const { clock, log } = this.#context;
    const found = await openHostPower(this.#config.power, this.#context);
    if (this.#stopped) return;
    if ("missing" in found) {
      this.#missing = found.missing;
      log.debug("no host power meter", { source: "host", reasons: found.missing });
      return;
    }
    this.#power = found;
    log.info("host power meter found", { source: "host", method: found.method });
    this.#cancel = every(clock, found.intervalMs, () => this.#read(found), clock.now());
  }

  async #read(power: HostPower): Promise<void> {
    const reading = await power.read();
    if (reading === undefined) return;
    const { at, joules, method, watts } = reading;
    // The conventions want a component's id on each hw.* series; a host is one component of itself.
    const dimensions = { "hw.id": "host", [METHOD]: method };
    if (watts !== undefined) {
      const everyMs = power.intervalMs;
      this.#books.observe({ metric: "hw.host.power", dimensions, value: watts, at, everyMs });
    }
    const moved = joules - (this.#last ?? joules);
    this.#last = joules;
    this.#post("hw.host.energy", dimensions, moved, at);
    if (this.#measuresNode()) this.#bookFacility({ nodeJoules: moved }, at);
  }

  /** RAPL sees processors and memory only: that is not the node. */
  #measuresNode(): boolean {
    return this.#power?.wholeNode === true;
  }

  #bookFacility(measured: Parameters<typeof facilityJoules>[0], at: number): void {
    const joules = facilityJoules(measured, this.#config);
    if (joules !== undefined) this.#post("tokenwatt.facility.energy", { [METHOD]: "modelled" }, joules, at);
  }

  #post(metric: string, dimensions: Posting["dimensions"], joules: number, at: number): void {
    const exact = joules * 1000 + (this.#carried.get(metric) ?? 0);
    const amount = Math.floor(exact);
    this.#carried.set(metric, exact - amount);
    if (amount > 0) this.#books.bookPostings([{ metric, dimensions, amount }], at);
  }
}

/**
 * Joules at the facility's meter for joules of one stretch of time, always a model: node energy x PUE where the node can be
 * measured, else GPU energy x host overhead x PUE (8 x H100 are about 76 % of their node, arXiv 2506.14551). Undefined
 * where the factors are not configured.
 */
function facilityJoules(
  measured: { readonly nodeJoules?: number; readonly gpuJoules?: number },
  { pue, hostOverhead }: Pick<HostConfig, "pue" | "hostOverhead">,
): number | undefined {
  if (pue === undefined) return undefined;
  if (measured.nodeJoules !== undefined) return measured.nodeJoules * pue;
  if (measured.gpuJoules === undefined || hostOverhead === undefined) return undefined;
  return measured.gpuJoules * hostOverhead * pue;
}
