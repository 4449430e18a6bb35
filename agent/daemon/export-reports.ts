// What leaves the host beside the totals, and what it is made from: who this host is, the agent's own figures, the audit
// record, and the sources of load reports.

import type { Config } from "../config/load.ts";
import type { Attributes } from "../export/otlp/attributes.ts";
import { destinations } from "../export/otlp/config.ts";
import { agentResource } from "../export/otlp/resource.ts";
import type { SelfReading, SelfStats } from "../export/self/points.ts";
import { readSelf } from "../export/self/points.ts";
import { hostIdentity } from "../host/inventory.ts";
import type { Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import { programVersion } from "../platform/version.ts";
import type { Stored } from "../store/ledger/database.ts";
import type { SpoolStatus } from "../store/spool/spool.ts";
import { instanceId } from "../store/state-folder.ts";
import type { Core } from "./accounting.ts";
import { AuditExport } from "./audit-export.ts";
import type { Deliveries } from "./deliveries.ts";
import type { Durable } from "./durable-state.ts";
import type { LoadSources } from "./load-reports.ts";
import type { Pipeline } from "./pipeline.ts";
import type { PolicyDesk } from "./policy-desk.ts";
import { beatsOfReport, LoopDelays, SelfReport, selfStats } from "./self-report.ts";
import { settledLoad } from "./settled-load.ts";

/** What the reports are made from. */
export interface ReportsParts {
  readonly clock: Clock;
  readonly config: Config;
  readonly log: Log;
  readonly durable: Durable;
  readonly pipeline: Pipeline;
  readonly policy: PolicyDesk;
  readonly deliveries: Deliveries;
  readonly resource: Attributes;
  readonly spool: () => SpoolStatus;
  /** How the last beat was stored; undefined where none was. */
  readonly stored: () => Stored | undefined;
}

/** The agent's reports about itself: its figures, for whoever asks and for the first destination, and the audit record. */
export class Reports {
  readonly audit: AuditExport;
  readonly #parts: ReportsParts;
  readonly #self: SelfReport;
  readonly #loopDelays: LoopDelays;

  constructor(parts: ReportsParts) {
    const { clock, config, durable, log, resource } = parts;
    const { otlp } = config.export;
    const version = programVersion();
    const { exportMs } = config.rates;
    this.#parts = parts;
    this.#loopDelays = new LoopDelays(beatsOfReport(exportMs));
    this.audit = new AuditExport({
      ...{ clock, log, resource, version, store: durable.store, destinations: destinations(otlp) },
      restored: durable.restored?.state ?? [],
    });
    this.#self = new SelfReport({
      ...{ clock, log, resource, version, destination: destinations(otlp)[0], read: () => this.read() },
      ...{ firstMs: exportMs, intervalMs: beatsOfReport(exportMs) * exportMs },
    });
  }

  /** The figures now. */
  read(): SelfReading {
    const { clock } = this.#parts;
    return readSelf(this.#stats(), clock.unixNanos(clock.now()));
  }

  /** A beat is on disk: entries of the record may be sent, and how long the loop was held up is counted from here. */
  afterCommit(): void {
    const { clock, stored } = this.#parts;
    const delay = clock.takeDelay?.();
    if (delay !== undefined) this.#loopDelays.noteBeat(delay / 1e9);
    this.audit.wake(stored()?.head.length ?? 0);
  }

  /** Reports once more and ends; the audit record is stopped by itself. */
  async stop(): Promise<void> {
    await this.#self.stop();
  }

  #stats(): SelfStats {
    const { deliveries, pipeline, policy, spool, stored } = this.#parts;
    const stats = selfStats(
      deliveries.statuses(),
      spool(),
      deliveries.deadLetters,
      pipeline.intake.health,
      { gpu: Number(pipeline.gpu?.status()["restarts"] ?? 0) },
      stored()?.head,
      this.#loopDelays.longest,
    );
    return { ...stats, ...policy.answering, auditWaiting: this.audit.waiting, auditLost: this.audit.lost };
  }
}

/** Who this host is, on everything that is sent. */
export function resourceOf(parts: {
  readonly config: Config;
  readonly durable: Durable;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
}): Attributes {
  const { config, durable, env, log } = parts;
  const { hostName, hostId, hostArch, osDescription } = hostIdentity();
  return agentResource({
    env,
    facts: {
      hostName,
      hostArch,
      osType: "linux",
      instanceId: durable.agentId ?? instanceId(config.stateDir, log),
      ...(hostId === undefined ? {} : { hostId }),
      ...(osDescription === undefined ? {} : { osDescription }),
    },
    configured: config.resource,
    version: programVersion(),
  });
}

/** What load reports are made from: the servers, their readings, what was settled, and what they can sustain. */
export function loadSourcesOf(parts: {
  readonly clock: Clock;
  readonly core: Core;
  readonly pipeline: Pipeline;
}): LoadSources {
  const { clock, core, pipeline } = parts;
  const { lastTokenSamples, servers } = pipeline.intake;
  return {
    servers,
    lastTokenSamples,
    capacityOf: (server) =>
      core.books.capacityRate(server, core.increments.soleModel(server), clock.now())?.tokensPerGpuHour,
    settledOf: (server) => settledLoad(pipeline.recent, server, clock.now()),
  };
}
