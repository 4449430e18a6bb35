// A host at work around a daemon under test: 8 GPUs (a library that speaks NVML), 16 servers with pages of 300 KB (10 vLLM
// engines with 3 models, 6 LiteLLM gateways with many teams), and an OTLP receiver on loopback that counts: over 5,000
// series in every beat.
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { startReceiver } from "../../../agent/cli/demo/receiver.ts";
import type { Received } from "../../../agent/cli/live/session.ts";
import { buildFakeNvml, fakeNvml } from "../../fakes/nvml/build.ts";
import { litellmPage } from "../../tools/litellm-page.ts";
import { vllmPage } from "../../tools/vllm-page.ts";

const GPUS = 8;
const MODELS = 3;
const TEAM_MODELS = 6;

/** How much there is to read. */
export interface Load {
  /** vLLM engines of 3 models. */
  readonly engines: number;
  /** LiteLLM gateways of 6 models for each team. */
  readonly gateways: number;
  readonly teams: number;
  readonly pageBytes: number;
  /** Nothing moves after the first page. */
  readonly idle?: boolean;
}

/** 16 servers, 5,600 series. */
export const STANDARD_LOAD: Load = { engines: 10, gateways: 6, teams: 26, pageBytes: 300_000 };

/** Everything a daemon reads and sends to. */
export interface LoadedHost {
  /** What its environment must say. */
  readonly environment: Readonly<Record<string, string>>;
  /** The addresses of its metric pages. */
  readonly pages: readonly string[];
  /** What the receiver got so far. */
  received(): Received;
  close(): void;
}

/** Starts it, with its configuration in `folder`; undefined (said on stderr) without a C compiler. */
export async function startLoadedHost(
  folder: string,
  { engines, gateways, idle, pageBytes, teams }: Load = STANDARD_LOAD,
): Promise<LoadedHost | undefined> {
  const library = buildFakeNvml();
  if (library === undefined) return undefined;
  const began = performance.now();
  const pages = createServer((request, response) => {
    const seconds = idle === true ? 1000 : (performance.now() - began) / 1000;
    response.setHeader("content-type", "text/plain; version=0.0.4");
    const [, kind, index] = request.url?.split("/") ?? [];
    // Gateways count the same tenant and model together, so each serves models of its own.
    const models = Array.from({ length: TEAM_MODELS }, (_, model) => `org/model-${index}-${model}`);
    response.end(
      kind === "engine"
        ? vllmPage(seconds, MODELS, pageBytes)
        : litellmPage(seconds, teams, models, pageBytes),
    );
  }).listen(0, "127.0.0.1");
  await once(pages, "listening");
  const { port } = pages.address() as AddressInfo;
  const enginePages = Array.from(
    { length: engines },
    (_, index) => `http://127.0.0.1:${port}/engine/${index}`,
  );
  const gatewayPages = Array.from(
    { length: gateways },
    (_, index) => `http://127.0.0.1:${port}/gateway/${index}`,
  );
  const receiver = await startReceiver("127.0.0.1:0");
  const config = join(folder, "config.yaml");
  writeFileSync(
    config,
    JSON.stringify({
      gpu: { backend: "nvml", nvml: { libraryPath: fakeNvml(library, `gpus ${GPUS}`).path } },
      servers: {
        vllm: enginePages.map((endpoint, index) => ({
          id: `engine-${index}`,
          endpoint,
          gpus: [`GPU-0000000${index % GPUS}-0000-4000-8000-000000000000`],
        })),
        litellm: gatewayPages.map((endpoint, index) => ({ id: `gateway-${index}`, endpoint })),
      },
    }),
  );
  return {
    environment: {
      TOKENWATT_CONFIG: config,
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://${receiver.address}`,
    },
    pages: [...enginePages, ...gatewayPages],
    received: () => receiver.counts(),
    close: () => {
      pages.close();
      pages.closeAllConnections();
      receiver.close();
    },
  };
}
