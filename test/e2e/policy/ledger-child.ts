// Ledger and quotas as one agent holds them, to be killed: the real store, books, policy and rate-limit listener, beats as
// the agent's (agent/daemon/export-beat.ts) without pauses, on a clock that goes on by seconds to minutes with each. Prints what a
// beat is about to book, and once it is stored what every quota shows; first of all what the ledger's own rows say.
import { readPolicy } from "../../../agent/config/policy.ts";
import { PolicyDesk } from "../../../agent/daemon/policy-desk.ts";
import { Books } from "../../../agent/meter/books.ts";
import { BUCKET_NANOS } from "../../../agent/model.ts";
import { virtualClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { attributeOfKey, countedMetrics } from "../../../agent/policy/usage.ts";
import { LedgerStore } from "../../../agent/store/ledger/store.ts";
import { fed, gatewaySeries } from "../../policy/fixtures.ts";

const [folder = "", policyPath = "", startNanos = "0"] = process.argv.slice(2);
const TENANTS = ["acme", "blue", "cyan"];

const store = await LedgerStore.open({ folder, pid: process.pid, freeBytesMin: 0 });
const { restored } = store.opened;
const clock = virtualClock(BigInt(restored?.time ?? startNanos));
const desk = new PolicyDesk({
  ...{ clock, log: silentLog, store, restored, outdated: undefined, hasPrices: false, everyMs: 10_000 },
  ...{ policy: readPolicy(policyPath, { hasPrices: false }), aliases: {} },
});
const books = new Books(
  {
    start: clock.unixNanos(0),
    unixNanos: (at) => clock.unixNanos(at),
    onBooked: (booking) => desk.count(booking),
  },
  restored,
);

interface Shown {
  readonly name: string;
  readonly per: string;
  readonly key: Readonly<Record<string, string>>;
  readonly window: { readonly from: string };
}
const shown = (): readonly Shown[] => (desk.page(true) as { quotas: readonly Shown[] }).quotas;
/** Resolves once the system has the line: what it has not is lost with the process. */
const say = (line: object): Promise<void> =>
  new Promise((resolve) => process.stdout.write(`${JSON.stringify(line)}\n`, () => resolve()));

/** One beat: books these amounts at the clock's time, and returns once they are stored. */
async function beat(postings: readonly (readonly [tenant: string, amount: number])[]): Promise<number> {
  const [time, at] = [clock.unixNanos(clock.now()), clock.now()];
  const metric = "tokenwatt.gateway.tokens";
  books.ledger.postUntil(
    postings.map(([tenant, amount]) => ({ metric, dimensions: gatewaySeries(tenant), amount })),
    time,
  );
  const quotas = desk.beforeCommit({ books, time, at, feedOf: () => fed });
  const { batch } = books.commit(time, at, quotas);
  await say({ kind: "doing", sequence: batch.sequence, time: String(time), postings });
  const state = [...batch.state, ...desk.beatRow(batch.sequence)];
  await desk.stored(await store.commit({ ...batch, state }));
  return batch.sequence;
}

/** What the ledger's rows hold of the window each quota is in; a minute lies inside of them. */
async function rowSums(): Promise<readonly (readonly [name: string, tenant: string, amount: string])[]> {
  const sums: (readonly [string, string, string])[] = [];
  for (const { key, name, per, window } of shown()) {
    if (per === "minute") continue;
    const bucket = Number((BigInt(Date.parse(window.from)) * 1_000_000n) / BUCKET_NANOS);
    let sum = 0n;
    for (const [, dimensions, amount] of (await store.sumsSince([...countedMetrics], bucket)).rows)
      if (dimensions[attributeOfKey.tenant] === key["tenant"]) sum += amount;
    sums.push([name, key["tenant"] ?? "", String(sum)]);
  }
  return sums;
}

await say({ kind: "restored", sequence: restored?.sequence ?? 0 });
// A host may have been off for hours.
if (restored !== undefined) await clock.advance(Math.floor(Math.random() * 36_000) * 1e9);
const first = await beat([]);
await say({ kind: "first", sequence: first, quotas: shown(), rows: await rowSums() });
await desk.listen();
await say({ kind: "listen", port: desk.rateLimitPort });
for (;;) {
  await clock.advance(clock.now() + (1 + Math.floor(Math.random() * 200)) * 1e9);
  const sequence = await beat(TENANTS.map((tenant) => [tenant, 1 + Math.floor(Math.random() * 50)]));
  await say({ kind: "done", sequence, quotas: shown() });
}
