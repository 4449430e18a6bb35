// kill -9 during charges: a process with the agent's ledger, quotas and rate-limit listener (ledger-child.ts) is killed at
// random moments while calls charge over a socket, across hours, days, Berlin's night of the clocks and a month's end. What
// it shows is the sum of what was stored, never less than it showed before in a window, and no window begins twice.
// 24 kills here, more with E2E_POLICY_KILLS.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { openChannel } from "../../../agent/platform/grpc.ts";
import { shouldRateLimit } from "../../policy/rls-calls.ts";
import { context, owned, scratchFolder } from "../peers.ts";

const KILLS = Number(process.env["E2E_POLICY_KILLS"] ?? 24);
/** A home each, with a ledger of its own: 23 hours in a day, and days that begin at a quarter to an hour of UTC. */
const ZONES = ["Europe/Berlin", "Asia/Kathmandu"];
const START = BigInt(Date.parse("2026-03-28T20:00:00Z")) * 1_000_000n;

interface Shown {
  readonly name: string;
  readonly key: { readonly tenant?: string };
  readonly window: { readonly from: string; readonly to: string };
  readonly used: number | null;
  readonly drift: number | null;
  readonly method: string;
}

type Line =
  | { kind: "doing"; sequence: number; time: string; postings: readonly (readonly [string, number])[] }
  | { kind: "restored"; sequence: number }
  | { kind: "first"; sequence: number; quotas: readonly Shown[]; rows: readonly Row[] }
  | { kind: "done"; sequence: number; quotas: readonly Shown[] }
  | { kind: "listen"; port: number };
type Row = readonly [name: string, tenant: string, amount: string];

/** What was stored, by what the process said, and what it showed. */
class Truth {
  #booked: { readonly time: bigint; readonly tenant: string; readonly amount: number }[] = [];
  #doubtful: Extract<Line, { kind: "doing" }> | undefined;
  readonly #windows = new Map<string, { from: string; to: string; used: number }>();
  readonly rolls = new Map<string, number>();
  checks = 0;

  take(line: Line): void {
    if (line.kind === "doing") this.#doubtful = line;
    // Killed in the middle of a beat: it was stored or it was not, and the ledger knows.
    if (line.kind === "done" || line.kind === "restored") this.#settle(line.sequence);
    if (line.kind === "first") {
      for (const shown of line.quotas) {
        const row = line.rows.find(([name, tenant]) => name === shown.name && tenant === shown.key.tenant);
        if (row !== undefined) expect([row, ledgerOf(shown)]).toEqual([row, Number(row[2])]);
      }
    }
    if (line.kind === "done" || line.kind === "first") for (const shown of line.quotas) this.#check(shown);
  }

  #settle(sequence: number): void {
    const doing = this.#doubtful;
    this.#doubtful = undefined;
    if (doing === undefined || doing.sequence > sequence) return;
    for (const [tenant, amount] of doing.postings)
      this.#booked.push({ time: BigInt(doing.time), tenant, amount });
  }

  #check(shown: Shown): void {
    const { key, name, used, window } = shown;
    if (key.tenant === undefined || used === null) return;
    const [from, to] = [nanosOf(window.from), nanosOf(window.to)];
    const booked = this.#booked
      .filter(({ tenant, time }) => tenant === key.tenant && time > from && time <= to)
      .reduce((sum, { amount }) => sum + amount, 0);
    expect({ shown, ledger: ledgerOf(shown) }).toEqual({ shown, ledger: booked });
    const counter = `${name} ${key.tenant}`;
    const before = this.#windows.get(counter);
    if (before?.from === window.from) {
      expect([before.to, used >= before.used]).toEqual([window.to, true]);
    } else if (before !== undefined) {
      // The next begins where this one ended, or later: none comes back.
      expect(nanosOf(window.from)).toBeGreaterThanOrEqual(nanosOf(before.to));
      this.rolls.set(name, (this.rolls.get(name) ?? 0) + 1);
    }
    this.#windows.set(counter, { ...window, used });
    this.checks++;
  }
}

/** What the ledger booked of it: drift is what calls charged above that. */
function ledgerOf({ drift, method, used }: Shown): number | null {
  return method === "rls" && used !== null ? used - (drift ?? used) : used;
}

function nanosOf(iso: string): bigint {
  return BigInt(Date.parse(iso)) * 1_000_000n;
}

/** Charges as fast as answers come, until the process is gone; returns how many were answered. */
async function charge(port: number, gone: Promise<unknown>): Promise<number> {
  const client = openChannel({ target: `127.0.0.1:${port}` });
  let [answered, isGone] = [0, false];
  const caller = async (tenant: string): Promise<void> => {
    while (!isGone) {
      const hits = 1 + Math.floor(Math.random() * 60);
      const isAnswered = await shouldRateLimit(client, { descriptors: [{ entries: { tenant }, hits }] }).then(
        () => true,
        () => false,
      );
      if (isAnswered) answered++;
    }
  };
  const calling = Promise.all(["acme", "blue", "cyan", "acme"].map(caller));
  await gone;
  isGone = true;
  client.close();
  await calling;
  return answered;
}

/** One life: killed a random time after it began; what it said is judged. */
async function live(folder: string, truth: Truth, isLast: boolean): Promise<number> {
  const script = fileURLToPath(new URL("ledger-child.ts", import.meta.url));
  const args = [script, join(folder, "state"), join(folder, "policy.yaml"), String(START)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  owned(child);
  const said: Line[] = [];
  const listening = Promise.withResolvers<number>();
  const enough = Promise.withResolvers<void>();
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (text) => {
    // The last line may be cut off in the middle.
    const line = text.endsWith("}") ? (JSON.parse(text) as Line) : undefined;
    if (line !== undefined) said.push(line);
    if (line?.kind === "listen") listening.resolve(line.port);
    if (said.length > 40) enough.resolve();
  });
  const gone = Promise.all([once(child, "exit"), once(lines, "close")]);
  // Some die before they listen, most at any moment after it.
  const diesEarly = !isLast && Math.random() < 0.1;
  const port = diesEarly ? 0 : await Promise.race([listening.promise, gone.then(() => 0)]);
  const charged = port === 0 ? Promise.resolve(0) : charge(port, gone);
  if (isLast) await Promise.race([enough.promise, gone]);
  else await context.clock.sleep(Math.random() * (diesEarly ? 400 : 200));
  child.kill("SIGKILL");
  await gone;
  for (const line of said) truth.take(line);
  return charged;
}

test(`${KILLS} x kill -9 during charges: used is what was stored, and never falls inside a window`, {
  timeout: 60_000 + KILLS * 5_000,
}, async () => {
  const home = async (zone: string): Promise<{ truth: Truth; charges: number }> => {
    const folder = scratchFolder("policy-kill");
    const quota = (name: string, per: string): string =>
      `  - { name: ${name}, match: { tenant: "*" }, count: tokens, limit: 100000, per: ${per}, mode: local }\n`;
    const quotas = ["minute", "hour", "day", "month"].map((per) => quota(per, per)).join("");
    writeFileSync(
      join(folder, "policy.yaml"),
      `version: "1"\ntimeZone: ${zone}\nrls: { listen: "127.0.0.1:0" }\nquotas:\n${quotas}`,
    );
    const truth = new Truth();
    let charges = 0;
    for (let kill = 0; kill <= KILLS / ZONES.length; kill++)
      charges += await live(folder, truth, kill >= KILLS / ZONES.length);
    return { truth, charges };
  };
  for (const { charges, truth } of await Promise.all(ZONES.map(home))) {
    const rolls = [...truth.rolls].map(([name, count]) => `${count} ${name}s`).join(", ");
    console.log(
      `${truth.checks} readings equal what was stored, ${charges} charges answered, rolled ${rolls}`,
    );
    expect(charges).toBeGreaterThan(KILLS);
    expect(truth.rolls.get("day")).toBeGreaterThan(0);
  }
});
