// What `demo` is given on the command line.

/** The scenes that can be played. */
export type SceneName = "host" | "incident" | "solo";

/** What `demo` is given. */
export interface DemoOptions {
  readonly json?: boolean;
  readonly scene: SceneName;
  readonly speed?: number;
  readonly duration?: number;
  readonly from?: number;
  readonly log: "debug" | "info" | "warn" | "error";
}
