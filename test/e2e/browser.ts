// The browser that pages are judged in: Chromium as CHROMIUM names it, Playwright's own, else the distribution's.
import { existsSync } from "node:fs";
import type { Browser } from "playwright-core";
import { chromium } from "playwright-core";

const executablePath = [
  process.env["CHROMIUM"] ?? "",
  chromium.executablePath(),
  ...["/usr/bin/chromium-headless-shell", "/usr/bin/chromium", "/usr/bin/google-chrome"],
].find((path) => path !== "" && existsSync(path));

/** Whether suites that need a browser can run; says so where they cannot. */
export function hasBrowser(what: string): boolean {
  if (executablePath !== undefined) return true;
  console.warn(`SKIPPED: ${what}: there is no Chromium (apt-get install chromium-headless-shell)`);
  return false;
}

/** Starts it; ask `hasBrowser` first. */
export function launchBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: executablePath ?? "", args: ["--no-sandbox"] });
}
