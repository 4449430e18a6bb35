// The daemon as users run it, from source, beside vLLM pages and a nvidia-smi of a world that runs in real time: with a
// receiver of its own, exports and rates each second, and nothing discovered.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startCollector } from "../../fakes/otlp-collector.ts";
import { afterTest, freePort, owned, scratchFolder } from "../peers.ts";
import { Received } from "./received.ts";

const main = fileURLToPath(new URL("../../../agent/main.ts", import.meta.url));

/** A page it polls, and the processes that serve it. */
export interface PolledPage {
  readonly id: string;
  readonly endpoint: string;
  readonly pids: readonly number[];
  readonly pollMs: number;
}

/** The nvidia-smi it runs; as often as by itself where no interval is said. */
export interface Tool {
  readonly path: string;
  readonly intervalMs?: number | undefined;
}

/** A daemon that runs until its test is over. */
export interface LiveDaemon {
  ask(path: string): Promise<Response>;
  isReady(): Promise<boolean>;
  /** Ends it as a service manager does; returns what was received. Throws where it does not end with 0. */
  end(): Promise<Received>;
}

/** Starts a daemon with a state folder and a receiver of its own. */
export async function startLiveDaemon(pages: readonly PolledPage[], tool: Tool): Promise<LiveDaemon> {
  const folder = scratchFolder("live-daemon");
  const collector = await startCollector();
  afterTest(() => collector.close());
  const port = await freePort();
  const config = {
    stateDir: join(folder, "state"),
    gpu: { backend: "nvidia-smi", "nvidia-smi": tool },
    discovery: { enabled: false, kubernetes: "off" },
    servers: { vllm: pages },
    rates: { exportMs: 1000 },
    export: {
      otlp: { endpoint: `http://127.0.0.1:${collector.port}` },
      prometheus: { listen: `127.0.0.1:${port}` },
    },
  };
  writeFileSync(join(folder, "config.yaml"), JSON.stringify(config));
  const child = spawn(process.execPath, [main, "run", "--config", join(folder, "config.yaml")], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  owned(child);
  const ask = (path: string): Promise<Response> => fetch(`http://127.0.0.1:${port}${path}`);
  return {
    ask,
    isReady: async () => (await ask("/-/ready")).ok,
    end: async () => {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      const [code, signal] = await ended;
      if (code !== 0) throw new Error(`The daemon ended with ${code ?? signal}, wanted 0`);
      return new Received(collector.requests);
    },
  };
}
