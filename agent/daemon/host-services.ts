// What an agent watches of its host beside GPUs and servers: processes for placement, servers that are not configured, host power.
// Of a host that is metered, not of a recording.

import type { Config } from "../config/load.ts";
import { HostWatch } from "../discovery/host.ts";
import { KubernetesWatch } from "../discovery/kubernetes.ts";
import { holdersByGpu } from "../host/holders.ts";
import type { HostInventory } from "../host/inventory.ts";
import { readHostInventory } from "../host/inventory.ts";
import type { SettledInterval } from "../model.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { SourceContext } from "../source.ts";
import type { Core } from "./accounting.ts";
import { HostMeter } from "./host-energy.ts";
import type { Pipeline } from "./pipeline.ts";

/** What kind of machine it is takes a process to find out, and nothing waits for it: after the start. */
const INVENTORY_AFTER_MS = 5000;

/** What the services watch with. */
export interface HostServicesParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly config: Config;
  readonly context: SourceContext;
  readonly core: Core;
  readonly pipeline: Pipeline;
}

/** Runs until stopped. */
export class HostServices {
  readonly #watch: HostWatch;
  readonly #kubernetes: KubernetesWatch;
  readonly #meter: HostMeter;
  readonly #stopMeter: () => void;
  readonly #cancelInventory: Cancel;
  #inventory: HostInventory | undefined;

  constructor({ clock, config, context, core, log, pipeline }: HostServicesParts) {
    this.#watch = new HostWatch({
      clock,
      log,
      context,
      pipeline,
      correlator: core.correlator,
      discover: config.discovery.enabled,
      pods: () => {
        core.correlator.setGivenGpus(holdersByGpu(this.#kubernetes.given));
        return this.#kubernetes.pods;
      },
      scrapeMs: config.rates.scrapeMs,
    });
    this.#meter = new HostMeter(context, config.host, core.books.ledger);
    this.#watch.start();
    const { discovery, rates } = config;
    this.#kubernetes = new KubernetesWatch({ context, pipeline, discovery, scrapeMs: rates.scrapeMs });
    this.#kubernetes.start();
    this.#stopMeter = this.#meter.start();
    this.#cancelInventory = clock.at(clock.now() + INVENTORY_AFTER_MS * 1e6, async () => {
      this.#inventory = await readHostInventory(clock);
    });
  }

  /** Models the facility's energy of a settled interval where the node is not measured. */
  bookInterval(interval: SettledInterval): void {
    this.#meter.bookInterval(interval);
  }

  /** Ends every watch. */
  stop(): void {
    this.#watch.stop();
    this.#kubernetes.stop();
    this.#stopMeter();
    this.#cancelInventory();
  }

  /** For `/-/status`. */
  status(): Readonly<Record<string, unknown>> {
    return {
      machine: this.#inventory ?? null,
      discovery: this.#watch.status(),
      kubernetes: this.#kubernetes.status(),
      power: this.#meter.status(),
    };
  }
}
