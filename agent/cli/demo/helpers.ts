// The demo's helper processes. Forked before anything heavy is loaded here: they start while the agent does.
import type { ChildProcess } from "node:child_process";
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { childEnvironment } from "../../platform/process.ts";
import type { Received } from "../live/session.ts";
import { demoFolder } from "./recording.ts";
import type { SceneServerOptions, SceneStart } from "./scene-token-server.ts";
import type { DemoServerOptions, DemoStart } from "./token-server.ts";

/** The processes of one demo; without a receiver its telemetry goes elsewhere. */
export interface DemoHelpers {
  readonly server: Helper;
  readonly receiver: Helper | undefined;
}

/** Starts them; each is ready once it says where it listens. */
export function startHelpers(scene: string, speed: number, withReceiver: boolean): DemoHelpers {
  const solo: DemoServerOptions = { path: `${demoFolder}/tokens.jsonl.gz`, model: "decoder-8b", speed };
  const host: SceneServerOptions = { speed };
  return {
    server:
      scene === "solo"
        ? new Helper(new URL("./token-server.ts", import.meta.url), [JSON.stringify(solo)])
        : new Helper(new URL("./scene-token-server.ts", import.meta.url), [JSON.stringify(host)]),
    receiver: withReceiver ? new Helper(new URL("./receiver.ts", import.meta.url), []) : undefined,
  };
}

/** A process of the demo's own that says `{address}` once it listens, and what it received if it receives. */
class Helper {
  readonly #process: ChildProcess;
  readonly #ready = Promise.withResolvers<void>();
  #report = Promise.withResolvers<void>();
  #address = "";
  received: Received | undefined;

  constructor(file: URL, args: readonly string[]) {
    this.#process = fork(fileURLToPath(file), args, {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      env: childEnvironment(),
    });
    this.#process.once("exit", (code) => {
      this.#ready.reject(
        new Error(`Cannot run the demo: its helper ${fileURLToPath(file)} ended with code ${code}`),
      );
      this.#report.resolve();
    });
    this.#process.on("message", (message: { readonly address: string } | Received) => {
      if ("address" in message) {
        this.#address = message.address;
        this.#ready.resolve();
      } else {
        this.received = message;
        this.#report.resolve();
      }
    });
  }

  /** `host:port` it listens on, once ready. */
  get address(): string {
    return this.#address;
  }

  ready(): Promise<void> {
    return this.#ready.promise;
  }

  send(message: DemoStart | SceneStart): void {
    this.#process.send(message);
  }

  /** Asks a receiver what it received; resolves when it has answered, or has ended. */
  async report(): Promise<void> {
    this.#report = Promise.withResolvers();
    if (!this.#process.connected) return;
    this.#process.send("report");
    await this.#report.promise;
  }

  kill(): void {
    this.#process.removeAllListeners("exit");
    this.#process.kill("SIGKILL");
  }
}
