// The page in a browser (Chromium): the demo's host is drawn, by mouse and by keyboard, light and dark, small and large;
// axe finds nothing against WCAG 2.2 AA, the policy stops nothing the page needs, and nothing but this host is asked.
// Skips loudly where there is no Chromium. PAGE_SHOTS=<folder> keeps the pictures that were judged.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { hasBrowser, launchBrowser } from "./browser.ts";

const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const port = 21_000 + (process.pid % 20_000);
const address = `http://127.0.0.1:${port}/`;
const shots = process.env["PAGE_SHOTS"];

const isRunnable = hasBrowser("the page in a browser");

let demo: ChildProcess;
let browser: Browser;

beforeAll(async () => {
  if (!isRunnable) return;
  demo = spawn(process.execPath, [main, "demo", "--json"], {
    env: { ...process.env, TOKENWATT_EXPORT_PROMETHEUS_LISTEN: `127.0.0.1:${port}` },
    stdio: "ignore",
  });
  browser = await launchBrowser();
  const isThere = async (): Promise<boolean> => {
    const answer = await fetch(`${address}-/view`).catch(() => undefined);
    const text = (await answer?.text()) ?? "";
    return /"quotas":\[\{/.test(text) && /"tenants":\[\{/.test(text) && /"tokens_per_second":\d/.test(text);
  };
  await vi.waitFor(async () => expect(await isThere()).toBe(true), { timeout: 60_000, interval: 300 });
});
afterAll(async () => {
  await browser?.close();
  demo?.kill("SIGTERM");
});

/** The page once it is live, and what went wrong in it. */
async function open(
  colorScheme: "light" | "dark",
  [width, height]: readonly [number, number] = [1400, 1000],
): Promise<{ readonly page: Page; readonly wrong: readonly string[]; readonly asked: readonly string[] }> {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme, bypassCSP: false });
  const [wrong, asked]: [string[], string[]] = [[], []];
  page.on("pageerror", ({ message }) => wrong.push(message));
  page.on("console", (said) => said.type() === "error" && wrong.push(said.text()));
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(address);
  await page.locator("#live.live").waitFor({ timeout: 20_000 });
  await page.locator("#states canvas").first().waitFor();
  return { page, wrong, asked };
}

async function keep(page: Page, name: string): Promise<void> {
  if (shots === undefined) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

/** What axe has against the page; it is put in past the policy, as a developer's tools are. */
async function faults(page: Page): Promise<readonly string[]> {
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: axe });
  const { result } = await session.send("Runtime.evaluate", {
    expression:
      'axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }).then(({ violations }) => JSON.stringify(violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html }) => html.slice(0, 160)).join(" | "))))',
    awaitPromise: true,
  });
  return JSON.parse(String(result.value)) as readonly string[];
}

describe.skipIf(!isRunnable)("the page", () => {
  test.each(["light", "dark"] as const)("draws the host, %s, and asks nobody else", async (scheme) => {
    const { asked, page, wrong } = await open(scheme);
    expect(await page.locator("#gpus tbody tr").count()).toBe(10);
    expect(await page.locator("#servers tbody tr").count()).toBe(8);
    expect(await page.locator("#tenants tbody tr").count()).toBe(4);
    expect(await page.locator("#quotas tbody tr").count()).toBeGreaterThan(2);
    expect(await page.locator("#tiles li").first().innerText()).toMatch(/[1-9][\d,]+/);
    expect(await page.locator("#states canvas").first().getAttribute("aria-label")).toMatch(/^GPU 0 /);
    // Something was drawn: a canvas without a stroke is all alike.
    const painted = await page
      .locator("#gpus canvas")
      .nth(1)
      .evaluate((canvas) => {
        const { height, width } = canvas as unknown as { height: number; width: number };
        const data = (
          canvas as unknown as {
            getContext(kind: "2d"): { getImageData(...of: number[]): { data: Uint8ClampedArray } };
          }
        )
          .getContext("2d")
          .getImageData(0, 0, width, height).data;
        return data.some((value) => value > 0);
      });
    expect(painted).toBe(true);
    expect(await faults(page)).toEqual([]);
    await keep(page, `page-${scheme}`);
    expect(wrong).toEqual([]);
    expect(asked.filter((url) => !url.startsWith(address) && !url.startsWith("data:"))).toEqual([]);
    await page.close();
  });

  test("fits a narrow screen: nothing but tables scrolls sideways", async () => {
    const { page } = await open("light", [390, 800]);
    const [wide, shown] = (await page.evaluate(
      "[document.documentElement.scrollWidth, window.innerWidth]",
    )) as [number, number];
    expect(wide).toBeLessThanOrEqual(shown);
    expect(await faults(page)).toEqual([]);
    await keep(page, "page-narrow");
    await page.close();
  });

  test("is worked by keyboard: focus is seen, columns sort, a pause holds, and live figures keep the focus", async () => {
    const { page, wrong } = await open("light");
    const focused = (): Promise<string> =>
      page.evaluate("document.activeElement.textContent") as Promise<string>;
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("Skip to the figures");
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("Pause");
    const tokens = page.locator("#gpus th button", { hasText: "tok/s" });
    await tokens.focus();
    await page.keyboard.press("Enter");
    await expect.poll(() => page.locator("#gpus th[aria-sort=descending]").innerText()).toContain("tok/s");
    const order = async (): Promise<number[]> =>
      (await page.locator("#gpus tbody tr td:nth-child(9)").allInnerTexts()).flatMap((text) =>
        text === "–" ? [] : [Number(text.replaceAll(",", ""))],
      );
    const shown = await order();
    expect(shown).toEqual(shown.toSorted((a, b) => b - a));
    // Two more pictures, and the focus is where it was.
    const before = await page.locator("#facts").innerText();
    await expect.poll(() => page.locator("#facts").innerText(), { timeout: 30_000 }).not.toBe(before);
    expect(await focused()).toBe("tok/s");
    await page.locator("#pause").focus();
    await page.keyboard.press("Space");
    expect(await page.locator("#live").innerText()).toBe("paused");
    expect(await page.locator("#pause").getAttribute("aria-pressed")).toBe("true");
    expect(wrong).toEqual([]);
    await page.close();
  });
});
