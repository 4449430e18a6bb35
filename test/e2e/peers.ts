// What tests against real programs have in common: where the tools are, free ports, waiting, and clearing up.
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach } from "vitest";
import { systemClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { toolsFolder } from "./tools-folder.ts";

/** What sources are opened with. */
export const context = { clock: systemClock(), log: silentLog, signal: new AbortController().signal };

/** The path of an installed tool, or undefined after saying loudly what is skipped and how to install it. */
export function tool(path: string, what: string, how = "sh test/e2e/install-tools.sh"): string | undefined {
  const full = join(toolsFolder, path);
  if (existsSync(full)) return full;
  console.warn(`SKIPPED: ${what}, because ${full} is not here; run ${how}`);
  return undefined;
}

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Runs `close` after the test, last one first. */
export function afterTest(close: () => unknown): void {
  closing.push(close);
}

/** A folder that is gone after the test. */
export function scratchFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `tokenwatt-${name}-`));
  afterTest(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A port nobody listens on at the moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** Ends a child and waits for it; also after the test, in case nobody does before. */
export function owned(child: ChildProcess): () => Promise<void> {
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill();
    await ended;
  };
  afterTest(stop);
  return stop;
}

/** Waits until `check` holds; failures on the way count as not yet. Throws after `seconds` of waiting between checks. */
export async function until(check: () => Promise<boolean> | boolean, seconds = 120): Promise<void> {
  for (let tries = 0; ; tries++) {
    const holds = await Promise.resolve()
      .then(check)
      .catch(() => false);
    if (holds) return;
    if (tries > seconds * 10) throw new Error(`Gave up waiting until ${check}`);
    await context.clock.sleep(100, context.signal);
  }
}
