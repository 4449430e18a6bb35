// What the parts of an agent ask of it and tell it, in one place. agent.ts answers in a running agent; a pipeline that
// runs by itself, as in a replay, has `standalone`.
import type { SettledInterval } from "../model.ts";
import type { SourceError } from "../source.ts";

/** An agent as its parts see it. */
export interface AgentLife {
  /** Only a restart of the process helps (exit code 75); the first cause is kept. */
  needRestart(cause: SourceError): void;
  /** An interval was settled and posted. */
  intervalSettled(interval: SettledInterval): void;
  /** Resolves once everything accepted so far is on disk; rejects where the disk did not take it. */
  recorded(): Promise<void>;
  /** Whether GPUs were read, or found missing, and the ledger took a first beat. */
  ready(): boolean;
  /** Why a supervisor should restart the agent; undefined while it does its work. */
  unhealthy(): string | undefined;
  /** What is wrong although metering goes on. */
  degraded(): string | undefined;
  /** What `/-/status` shows. */
  status(): Readonly<Record<string, unknown>>;
}

/** The part of it that a pipeline uses. */
export type PipelineLife = Pick<AgentLife, "needRestart" | "intervalSettled" | "recorded">;

/** The life of a pipeline without an agent: nothing is kept, and nothing restarts it. */
export const standalone: PipelineLife = {
  needRestart: () => {},
  intervalSettled: () => {},
  recorded: async () => {},
};
