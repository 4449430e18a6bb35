// envoyproxy/ratelimit on a real Redis with a clock that calls move (peers/ratelimit.go), and ours, with the same limits:
// a world is a domain of its own with two quotas, for each of which both sides count every subject apart.
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import fc from "fast-check";
import type { Client } from "../../../agent/platform/grpc.ts";
import { openChannel } from "../../../agent/platform/grpc.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { PolicyBook } from "../../../agent/policy/book.ts";
import type { RlsConfig } from "../../../agent/policy/config.ts";
import { serveRateLimits } from "../../../agent/policy/rls.ts";
import { answerCall } from "../../../agent/policy/rls-answer.ts";
import { decodeRequest, encodeResponse } from "../../../agent/policy/rls-wire.ts";
import { policyWith } from "../../policy/fixtures.ts";
import type { Answered, Call } from "../../policy/rls-calls.ts";
import { decodeAnswer, encodeCall } from "../../policy/rls-calls.ts";
import { afterTest, freePort, owned, scratchFolder, tool, until } from "../peers.ts";

const peers = tool("policy-peers", "quotas beside envoyproxy/ratelimit");
const redis = tool("redis-server", "quotas beside envoyproxy/ratelimit");
/** Both programs are here. */
export const isUsable = peers !== undefined && redis !== undefined;

/** One quota as both sides know it. `tokens`: calls say how many; `requests`: each call is one. */
interface WorldQuota {
  readonly count: "tokens" | "requests";
  readonly per: "minute" | "hour" | "day";
  readonly limit: number;
  readonly isShadow: boolean;
}

/** One domain: a quota of tenants, and one of a route and model together. */
export interface World {
  readonly tenants: WorldQuota;
  readonly routes: WorldQuota;
}

const quota: fc.Arbitrary<WorldQuota> = fc.record({
  count: fc.constantFrom("tokens", "requests"),
  per: fc.constantFrom("minute", "hour", "day"),
  limit: fc.oneof(
    fc.integer({ min: 1, max: 8 }),
    fc.integer({ min: 9, max: 500 }),
    fc.constant(4_294_967_295),
  ),
  isShadow: fc.boolean(),
});

/** Worlds to draw from. */
export const world: fc.Arbitrary<World> = fc.record({ tenants: quota, routes: quota });

/** One call of a subject: which quotas it meets, in order (`visitor`: none limits it), and what it says of hits. */
export interface Step {
  readonly of: readonly ("tenants" | "routes" | "visitor")[];
  readonly hits: readonly number[];
  /** The hits are those of the call, and not of each descriptor. */
  readonly isShared: boolean;
}

const hits = fc.oneof(
  fc.constant(0),
  fc.integer({ min: 1, max: 60 }),
  fc.integer({ min: 61, max: 4_294_967_295 }),
);

/** What one subject does, a call a round. */
export const sequence: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.record({
    of: fc.array(fc.constantFrom("tenants", "routes", "visitor"), { minLength: 1, maxLength: 3 }),
    hits: fc.array(hits, { minLength: 3, maxLength: 3 }),
    isShared: fc.boolean(),
  }),
  { minLength: 1, maxLength: 9 },
);

/** A step of a subject as a call. */
export function callOf(step: Step, { domain, subject, world }: Subject): Call {
  const isShared =
    step.isShared && step.of.every((name) => name === "visitor" || world[name].count === "tokens");
  const descriptors = step.of.map((name, index) => {
    const counts = name === "visitor" ? "tokens" : world[name].count;
    const own = counts === "tokens" && !isShared ? { hits: step.hits[index] ?? 0 } : {};
    return { entries: entriesOf(name, subject), ...own };
  });
  return isShared ? { domain, descriptors, hits: Math.max(1, step.hits[0] ?? 1) } : { domain, descriptors };
}

/** Who calls, and in which world. */
export interface Subject {
  readonly domain: string;
  readonly world: World;
  readonly subject: string;
}

function entriesOf(name: Step["of"][number], subject: string): Readonly<Record<string, string>> {
  if (name === "routes") return { route: subject, model: `m-${subject}` };
  return name === "tenants" ? { tenant: subject } : { visitor: subject };
}

/** Starts the peer with these worlds, and more in its environment; returns a channel to it. */
export async function startPeer(
  worlds: readonly World[],
  more: Readonly<Record<string, string>> = {},
): Promise<Client> {
  const folder = scratchFolder("ratelimit");
  const [redisPort, grpcPort, httpPort, debugPort] = [
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
  ];
  const config = join(folder, "ratelimit", "config");
  mkdirSync(config, { recursive: true });
  worlds.forEach((one, index) => {
    writeFileSync(join(config, `w${index}.yaml`), JSON.stringify(domainOf(one, `w${index}`)));
  });
  const args = ["--port", String(redisPort), "--bind", "127.0.0.1", "--save", "", "--dir", folder];
  owned(spawn(redis as string, args, { stdio: "ignore" }));
  await until(() => accepts(redisPort));
  const env = {
    REDIS_SOCKET_TYPE: "tcp",
    REDIS_URL: `127.0.0.1:${redisPort}`,
    RUNTIME_ROOT: folder,
    RUNTIME_SUBDIRECTORY: "ratelimit",
    RUNTIME_WATCH_ROOT: "false",
    HOST: "127.0.0.1",
    PORT: String(httpPort),
    GRPC_HOST: "127.0.0.1",
    GRPC_PORT: String(grpcPort),
    DEBUG_HOST: "127.0.0.1",
    DEBUG_PORT: String(debugPort),
    LOG_LEVEL: "error",
    ...more,
  };
  owned(spawn(peers as string, ["ratelimit"], { env, stdio: ["ignore", "ignore", "inherit"] }));
  await until(() => accepts(grpcPort));
  const client = openChannel({ target: `127.0.0.1:${grpcPort}` });
  afterTest(() => client.close());
  return client;
}

/** A world as the peer's configuration; JSON is YAML. */
function domainOf({ routes, tenants }: World, domain: string): object {
  const limit = ({ isShadow, limit, per }: WorldQuota): object => ({
    rate_limit: { unit: per, requests_per_unit: limit },
    shadow_mode: isShadow,
  });
  return {
    domain,
    descriptors: [
      { key: "tenant", ...limit(tenants) },
      { key: "route", descriptors: [{ key: "model", ...limit(routes) }] },
      { key: "visitor", rate_limit: { unlimited: true } },
    ],
  };
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

/** Our answers for one world, at instants the test says. */
export class OurWorld {
  readonly book: PolicyBook;
  nowMillis: number;

  constructor({ routes, tenants }: World, domain: string, nowMillis: number) {
    this.nowMillis = nowMillis;
    const quota = ({ count, isShadow, limit, per }: WorldQuota, match: object): Record<string, unknown> => ({
      match,
      count,
      per,
      limit,
      mode: isShadow ? "shadow" : "local",
    });
    const quotas = [quota(tenants, { tenant: "*" }), quota(routes, { endpoint: "*", model: "*" })];
    const rls = { listen: "127.0.0.1:0", domains: [domain] };
    this.book = new PolicyBook(policyWith(quotas, { rls, keysMax: 100_000 }), nowMillis);
  }

  answer(bytes: Buffer): Buffer {
    const config = this.book.policy.rls as RlsConfig;
    const parts = { book: this.book, config, aliases: {}, count: () => {} };
    return encodeResponse(answerCall(decodeRequest(bytes), this.nowMillis, parts));
  }

  call(call: Call): Answered {
    return decodeAnswer(this.answer(encodeCall(call)));
  }

  /** A channel to it over a socket. */
  async listen(): Promise<Client> {
    const listener = await serveRateLimits(
      { listen: "127.0.0.1:0" },
      (bytes) => this.answer(bytes),
      silentLog,
    );
    afterTest(() => listener.close());
    const client = openChannel({ target: `127.0.0.1:${listener.port}` });
    afterTest(() => client.close());
    return client;
  }
}
