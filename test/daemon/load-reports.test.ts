// Which server a load report is of: three servers behind one port, by id, by model, by being the only one.
import { afterEach, expect, test } from "vitest";
import { LoadReports } from "../../agent/daemon/load-reports.ts";
import type { ServerInfo, TokenSample } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { openChannel } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { PolicyBook } from "../../agent/policy/book.ts";
import { policyWith } from "../policy/fixtures.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0).reverse()) one.close();
});

function sampleOf(server: string, model: string, at: number): TokenSample {
  const reading = { model, role: "combined", tokens: {}, requests: {}, volume: "step", running: 1 } as const;
  return {
    ...{ server, family: "engine", sent: at, received: at, at },
    ...{ readings: [reading], ignoredSamples: 0, errors: [] },
  };
}

async function reportsOf(names: readonly (readonly [id: string, model: string])[]): Promise<{
  ask(authority: string): Promise<"report" | number>;
  readonly clock: ReturnType<typeof virtualClock>;
}> {
  const clock = virtualClock(0n);
  const servers = new Map<string, ServerInfo>();
  const lastTokenSamples = new Map<string, TokenSample>();
  for (const [id, model] of names) {
    servers.set(id, { id, type: "vllm", family: "engine", address: "", pollMs: 1000 });
    lastTokenSamples.set(id, sampleOf(id, model, clock.now()));
  }
  const reports = new LoadReports({ clock, log: silentLog });
  open.push(reports);
  reports.use(new PolicyBook(policyWith([], { orca: { listen: "127.0.0.1:0" } }), 0), {
    servers,
    lastTokenSamples,
  });
  await reports.follow();
  const ask = (authority: string): Promise<"report" | number> => {
    const client = openChannel(
      { target: `127.0.0.1:${reports.port}` },
      { "grpc.default_authority": authority },
    );
    const bytes = (value: Buffer): Buffer => value;
    const path = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";
    const call = client.makeServerStreamRequest(path, bytes, bytes, Buffer.alloc(0));
    open.push(client, { close: () => call.cancel() });
    return new Promise((resolve) => {
      call.on("data", () => resolve("report"));
      call.on("error", (error: { code?: number }) => resolve(error.code ?? -1));
    });
  };
  return { ask, clock };
}

test("three servers behind one port are told apart by id, and by model where one alone serves it", async () => {
  const { ask } = await reportsOf([
    ["chat", "m"],
    ["code", "n"],
    ["code-2", "n"],
  ]);
  expect([await ask("chat"), await ask("chat:9468"), await ask("m"), await ask("code-2")]).toEqual(
    Array(4).fill("report"),
  );
  // NOT_FOUND: two serve it, or nobody does.
  expect([await ask("n"), await ask("nobody")]).toEqual([5, 5]);
});

test("any name is the only server there is", async () => {
  const { ask } = await reportsOf([["chat", "m"]]);
  expect(await ask("127.0.0.1")).toBe("report");
});

test("what a server can sustain is its rate for each GPU it holds, and unknown where nobody says how many", async () => {
  const clock = virtualClock(0n);
  const servers = new Map([
    ["s", { id: "s", type: "vllm", family: "engine", address: "", pollMs: 1000 } as const],
  ]);
  const lastTokenSamples = new Map<string, TokenSample>();
  const policy = policyWith([], { orca: { listen: "127.0.0.1:0" } });
  const loadWith = async (gpus: number | undefined): Promise<boolean> => {
    const reports = new LoadReports({ clock, log: silentLog });
    open.push(reports);
    const settled = {
      gpus: gpus ?? 0,
      tokenActiveRatio: undefined,
      watts: undefined,
      tokensPerJoule: undefined,
    };
    reports.use(new PolicyBook(policy, 0), {
      ...{ servers, lastTokenSamples, capacityOf: () => 3600 },
      settledOf: () => (gpus === undefined ? undefined : settled),
    });
    await reports.follow();
    for (const [at, output] of [
      [clock.now(), 0],
      [clock.now() + 1e9, 1],
    ] as const) {
      const sample = sampleOf("s", "m", at);
      const [reading] = sample.readings;
      lastTokenSamples.set("s", {
        ...sample,
        readings: [{ ...reading, tokens: { output } }] as TokenSample["readings"],
      });
      await clock.advance(1e9);
    }
    return (await firstReport(reports.port ?? 0)).includes("headroom_tokens_per_second");
  };
  expect([await loadWith(2), await loadWith(undefined)]).toEqual([true, false]);
});

/** The bytes of the first report, as text: names of the maps are in it as they are. */
function firstReport(port: number): Promise<string> {
  const client = openChannel({ target: `127.0.0.1:${port}` });
  const bytes = (value: Buffer): Buffer => value;
  const path = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";
  const call = client.makeServerStreamRequest(path, bytes, bytes, Buffer.alloc(0));
  call.on("error", () => {});
  open.push(client, { close: () => call.cancel() });
  return new Promise((resolve) => call.once("data", (report: Buffer) => resolve(report.toString("latin1"))));
}
