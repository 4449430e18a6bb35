// What quotas do when something else fails, one row of the contract each: a disk that takes rows no more, one that takes
// nothing, a gateway that cannot be read, a driver that hangs, a ledger that is lost or from a copy. All of the agent over a
// real ledger; calls and load reports over real sockets.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import { readPolicy } from "../../agent/config/policy.ts";
import { Agent } from "../../agent/daemon/agent.ts";
import type { Durable } from "../../agent/daemon/durable-state.ts";
import type { AuditEntry, GpuSample, LedgerBatch, TokenReading, TokenSample } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import type { Client } from "../../agent/platform/grpc.ts";
import { openChannel } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import type { GpuSource, PullServerSource } from "../../agent/source.ts";
import { SourceError } from "../../agent/source.ts";
import type { LedgerStore } from "../../agent/store/ledger/store.ts";
import { verifyLedger } from "../../agent/store/ledger/verify.ts";
import { memorySpool } from "../../agent/store/spool/memory-spool.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import { shouldRateLimit } from "../policy/rls-calls.ts";
import { LedgerAtOnce } from "../store/ledger/ledger-at-once.ts";

const START = BigInt(Date.parse("2026-12-01T12:00:00Z")) * 1_000_000n;
const [OK, OVER] = [1, 2];
const PLENTY = 1e9;
/** Seldom, so that minutes take little. */
const RATES = ["rates.exportMs=5000", "rates.tickMs=5000", "rates.gpuMs=5000"];

let folder: string;
const closing: (() => unknown)[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tokenwatt-failures-"));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  rmSync(folder, { recursive: true });
});

interface Shown {
  readonly name: string;
  readonly used: number | null;
  readonly method: string;
  readonly state: string;
  readonly window: { readonly from: string };
  readonly feed_silent_since: string | null;
}

/** A GPU whose driver answers nothing any more. */
const hungGpu: GpuSource = {
  backend: "hung",
  generation: 0,
  inventory: async () => [{ uuid: "GPU-1", index: 0, name: "H100", weight: 1 } as never],
  poll: () => Promise.reject(new SourceError("transient", "the driver answers nothing")),
  close: async () => {},
  status: () => ({}),
};

/** A GPU that is read, and works. */
function readGpu(now: () => number): GpuSource {
  const sample = (): GpuSample => ({ gpu: "GPU-1", at: now(), utilizationRatio: 0.5, powerWatts: 300 });
  return {
    ...hungGpu,
    backend: "read",
    poll: async () => ({ sent: now(), received: now(), samples: [sample()], gaps: [] }),
  };
}

/** One agent on a disk and with a gateway that a test lets fail. */
class Host {
  readonly #clock;
  readonly audit: AuditEntry[] = [];
  /** Served by the gateway and the engine since they began. */
  served = 1000;
  gatewayFails = false;
  freeBytes = PLENTY;
  diskFails = false;
  #agent: Agent | undefined;
  #database: LedgerAtOnce | undefined;

  constructor(atSeconds = 0) {
    this.#clock = virtualClock(START + BigInt(atSeconds) * 1_000_000_000n, START - 3_600_000_000_000n);
  }

  async start(
    quotas: string,
    { gpu, outdated }: { gpu?: GpuSource; outdated?: "copied" } = {},
  ): Promise<this> {
    const path = join(folder, "policy.yaml");
    const places = `rls: {listen: "unix:${folder}/rls.sock"}\norca: {listen: "unix:${folder}/orca.sock"}\n`;
    writeFileSync(path, `version: "1"\n${places}quotas:\n${quotas}`);
    const database = new LedgerAtOnce({ folder, pid: 1 }, () => this.freeBytes);
    this.#database = database;
    const { agentId, restored } = database.opened;
    const openSpool: Durable["openSpool"] = async () => memorySpool([]);
    const durable: Durable = { store: this.#store(database), restored, agentId, outdated, openSpool };
    const settings = ["export.prometheus.listen=", ...RATES];
    const { config } = loadConfig({ env: {}, file: false, settings });
    const policy = readPolicy(path, { hasPrices: false });
    const servers = [this.#server("gw", "gateway"), this.#server("chat", "engine")];
    const parts = { clock: this.#clock, gpu: gpu ?? readGpu(() => this.#clock.now()), servers };
    const options = { config, policy, log: silentLog, env: {}, strict: true, ...parts };
    this.#agent = new Agent(options, durable, memorySpool([]), new AbortController());
    let isStarted = false;
    const started = this.#agent.start(undefined).then(() => {
      isStarted = true;
    });
    // Sockets open in real time, everything else on the clock of the test.
    while (!isStarted) {
      await this.#clock.advance(this.#clock.now() + 1e6);
      await new Promise(setImmediate);
    }
    await started;
    closing.push(() => this.kill());
    await this.pass(15);
    return this;
  }

  /** Time goes on. */
  async pass(seconds: number): Promise<void> {
    await this.#clock.advance(this.#clock.now() + seconds * 1e9);
  }

  async use(tokens: number, seconds = 60): Promise<void> {
    this.served += tokens;
    await this.pass(seconds);
  }

  quota(name: string): Shown | undefined {
    const page = this.#agent?.policyPage() as { readonly quotas: readonly Shown[] };
    return page.quotas.find((one) => one.name === name);
  }

  kill(): void {
    this.#agent = undefined;
    this.#database?.close();
    this.#database = undefined;
  }

  async call(hits: number): Promise<number> {
    const client = openChannel({ target: `unix:${folder}/rls.sock` });
    const { code } = await shouldRateLimit(client, { descriptors: [{ entries: { tenant: "a" }, hits }] });
    client.close();
    return code;
  }

  #store(database: LedgerAtOnce): LedgerStore {
    const store: Pick<LedgerStore, "commit" | "sumsSince" | "delivered" | "writeAudit" | "close" | "opened"> =
      {
        opened: database.opened,
        commit: async (batch: LedgerBatch) => {
          // As a disk that takes nothing does it: the beat waits with whoever owns the file.
          if (this.diskFails) throw new Error("disk I/O error");
          this.audit.push(...batch.audit);
          return database.commit(batch);
        },
        sumsSince: async (metrics, from) => database.sumsSince(metrics, from),
        delivered: async () => {},
        writeAudit: async () => {},
        close: async () => {},
      };
    return store as LedgerStore;
  }

  #server(id: string, family: "gateway" | "engine"): PullServerSource {
    const info = { id, type: "test", family, address: `127.0.0.1:${family.length}`, pollMs: 5000 } as const;
    return {
      kind: "pull",
      info,
      poll: async (): Promise<TokenSample> => {
        if (family === "gateway" && this.gatewayFails) throw new Error("nobody there");
        const at = this.#clock.now();
        const reading: TokenReading = {
          ...{ model: "m", role: "combined", epoch: "e", volume: "step", requests: {} },
          tokens: { output: this.served },
          ...(family === "gateway" ? { tenant: "a" } : { running: 3, waiting: 1, kvCacheUtilization: 0.4 }),
        };
        const empty = { ignoredSamples: 0, errors: [] };
        return { server: id, family, sent: at, received: at, at, readings: [reading], ...empty };
      },
      close: async () => {},
    };
  }
}

const acme = "  - {name: a, match: {tenant: a}, count: tokens, limit: 500, per: hour, mode: local}\n";

describe("quotas", () => {
  test("go on in memory and in state while the disk takes no rows, and are exact after a kill in it", async () => {
    const host = await new Host().start(acme);
    await host.use(100);
    host.freeBytes = 0;
    await host.use(300);
    expect(host.quota("a")).toMatchObject({ used: 400, method: "ledger" });
    expect(await host.call(0)).toBe(OK);
    await host.use(101);
    expect([host.quota("a")?.state, await host.call(0)]).toEqual(["over", OVER]);
    host.kill();
    const next = new Host(600);
    next.served = host.served;
    next.freeBytes = 0;
    await next.start(acme);
    expect(next.quota("a")).toMatchObject({ used: 501, state: "over" });
    next.freeBytes = PLENTY;
    await next.use(7);
    expect(next.quota("a")?.used).toBe(508);
    next.kill();
    expect(verifyLedger(ledgerPath(folder)).problems).toEqual([]);
  });

  test("answer by what they know while nothing is stored, show nothing that is not, and lose nothing of it", async () => {
    const host = await new Host().start(acme);
    await host.use(100);
    host.diskFails = true;
    await host.use(450);
    expect(host.quota("a")?.used).toBe(100);
    expect(await host.call(0)).toBe(OVER);
    host.diskFails = false;
    await host.pass(60);
    expect(host.quota("a")).toMatchObject({ used: 550, state: "over" });
  });

  test("are known by calls while the gateway cannot be read, and by it once it can: each request once", async () => {
    const quiet =
      "  - {name: quiet, match: {tenant: a, model: m}, count: tokens, limit: 5000, per: minute}\n";
    const host = await new Host().start(acme.replace("500", "5000") + quiet);
    await host.use(100);
    await host.call(100);
    host.gatewayFails = true;
    host.served += 50;
    await host.call(50);
    await host.pass(200);
    expect(host.quota("a")).toMatchObject({ used: 150, feed_silent_since: null });
    expect(host.quota("quiet")).toMatchObject({ used: 0, state: "ok" });
    await host.pass(150);
    expect(host.quota("a")).toMatchObject({ used: 150, method: "rls" });
    expect(host.quota("a")?.feed_silent_since).not.toBeNull();
    // No call says anything of it.
    expect(host.quota("quiet")).toMatchObject({ used: 0, state: "unknown", method: "ledger" });
    host.gatewayFails = false;
    await host.use(20);
    expect(host.quota("a")).toMatchObject({ used: 170, method: "ledger", feed_silent_since: null });
    const feeds = host.audit.filter(({ body }) => "feed" in body).map(({ body }) => body["feed"]);
    expect(feeds).toEqual(["silent", "silent", "back", "back"]);
  });

  test("are metered on while the driver hangs, and load is reported from cache and queue", async () => {
    const host = await new Host().start(acme, { gpu: hungGpu });
    await host.use(100);
    await host.use(20);
    expect(host.quota("a")).toMatchObject({ used: 120, method: "ledger" });
    expect(await host.call(0)).toBe(OK);
    const client: Client = openChannel(
      { target: `unix:${folder}/orca.sock` },
      { "grpc.default_authority": "chat" },
    );
    closing.push(() => client.close());
    const bytes = (value: Buffer): Buffer => value;
    const path = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";
    const call = client.makeServerStreamRequest(path, bytes, bytes, Buffer.alloc(0));
    const report = await new Promise<Buffer>((resolve, reject) => {
      call.once("data", resolve).once("error", reject);
    });
    call.on("error", () => {}).cancel();
    expect(report.toString("latin1")).toContain("kv_cache");
  });

  test("count from 0 and read unknown until their window ends where the ledger may lack what was used before", async () => {
    const first = await new Host(-120).start(acme);
    await first.pass(120);
    await first.use(100);
    expect(first.quota("a")).toMatchObject({ state: "ok", used: 100 });
    first.kill();
    const host = new Host(3600 - 60);
    host.served = first.served;
    await host.start(acme, { outdated: "copied" });
    expect(host.quota("a")?.state).toBe("unknown");
    const why = host.audit.filter(({ kind }) => kind === "policy").map(({ body }) => body["outdated"]);
    expect(why).toEqual(["copied"]);
    await host.pass(120);
    expect(host.quota("a")).toMatchObject({
      state: "ok",
      used: 0,
      window: { from: "2026-12-01T13:00:00.000Z" },
    });
  });
});
