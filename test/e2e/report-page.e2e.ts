// `tokenwatt report --format html` in a browser: opened from disk it asks for nothing, has no fault that axe-core finds in the
// light and in the dark, fits a phone, and prints light on a few pages.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { AxeResults } from "axe-core";
import axe from "axe-core";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCommand } from "../cli/capture-io.ts";
import { fillWeek } from "../cli/report/week-ledger.ts";
import { hasBrowser, launchBrowser } from "./browser.ts";

const isRunnable = hasBrowser("the report's page in a browser");
const folder = mkdtempSync(join(tmpdir(), "page-"));
const path = join(folder, "week.html");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(!isRunnable)("report --format html in a browser", () => {
  let browser: Browser;
  beforeAll(async () => {
    fillWeek(folder);
    const range = ["--from", "2026-11-02", "--to", "2026-11-10", "--time-zone", "Europe/Berlin"];
    const words = ["report", "--state-dir", folder, ...range, "--format", "html", "-o", path];
    expect((await runCommand(words)).exitCode).toBe(0);
    browser = await launchBrowser();
  });
  afterAll(() => browser?.close());

  test.each([
    ["light", 1100],
    ["dark", 1100],
    ["light", 390],
  ] as const)("reads well in the %s on %i pixels, and asks for nothing", async (colorScheme, width) => {
    const page = await browser.newPage({ colorScheme, viewport: { width, height: 900 } });
    const [asked, said] = [[] as string[], [] as string[]];
    page.on("request", (request) => asked.push(request.url()));
    page.on("console", (message) => said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error)));
    await page.goto(pathToFileURL(path).href);
    expect([asked, said]).toEqual([[pathToFileURL(path).href], []]);
    const wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth");
    expect(wide).toBeLessThanOrEqual(0);
    await page.evaluate(axe.source);
    const found = (await page.evaluate("axe.run()")) as AxeResults;
    expect(found.violations.map(({ help, id, nodes }) => [id, help, nodes.map(({ html }) => html)])).toEqual(
      [],
    );
    expect(found.passes.map(({ id }) => id)).toContain("color-contrast");
    await page.close();
  });

  test("prints in the light whatever the screen is, on a few pages", async () => {
    const page = await browser.newPage({ colorScheme: "dark" });
    await page.goto(pathToFileURL(path).href);
    const background = "getComputedStyle(document.body).backgroundColor";
    expect(await page.evaluate(background)).not.toBe("rgb(255, 255, 255)");
    const paper = await page.pdf({ preferCSSPageSize: true, printBackground: true });
    await page.emulateMedia({ media: "print" });
    expect(await page.evaluate(background)).toBe("rgb(255, 255, 255)");
    const pages = paper.toString("latin1").match(/\/Type\s*\/Page\b/g)?.length ?? 0;
    expect(pages).toBeGreaterThanOrEqual(2);
    expect(pages).toBeLessThanOrEqual(5);
    await page.close();
  });
});
