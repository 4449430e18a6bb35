// The screen on a real terminal (tmux): `demo` shows its own, `top` attaches to it, keys turn views, and the terminal is given
// back as it was. Skips loudly where there is no tmux.
import { execFileSync, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";

const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const session = `tokenwatt-top-${process.pid}`;
const isMissing = spawnSync("tmux", ["-V"]).error !== undefined;
if (isMissing) console.warn("SKIPPED: the screen on a terminal, because tmux is not installed");

const tmux = (...words: string[]): string =>
  execFileSync("tmux", ["-L", session, ...words], { encoding: "utf8" });
const shown = (name: string): string => tmux("capture-pane", "-p", "-t", name);

afterAll(() => {
  if (!isMissing) spawnSync("tmux", ["-L", session, "kill-server"]);
});

/** A terminal of that size in which a shell runs a command and then says how it ended. */
function open(name: string, size: readonly [number, number], command: string, env = ""): void {
  const script = `echo before; env LC_ALL=C.UTF-8 ${env} ${process.execPath} ${main} ${command}; echo ended $?; sleep 600`;
  tmux("new-session", "-d", "-s", name, "-x", String(size[0]), "-y", String(size[1]), script);
}

const wait = { timeout: 60_000, interval: 200 };

describe.skipIf(isMissing)("on a terminal", () => {
  test("demo shows its own screen, top attaches to it, and both give the terminal back", async () => {
    const port = 20_000 + (process.pid % 20_000);
    const listen = `TOKENWATT_EXPORT_PROMETHEUS_LISTEN=127.0.0.1:${port}`;
    open("own", [200, 60], "demo --duration 600s", listen);
    await expect.poll(() => shown("own"), wait).toMatch(/tok\/s {2}/);
    for (const [columns, rows] of [
      [80, 24],
      [200, 60],
    ] as const) {
      const name = `top-${columns}`;
      open(name, [columns, rows], `top --url http://127.0.0.1:${port}`);
      await expect.poll(() => shown(name), wait).toMatch(/^GPU\^ /m);
      const lines = shown(name).trimEnd().split("\n");
      expect(lines.length).toBeLessThanOrEqual(rows);
      expect(lines.at(-1)).toMatch(/^1 GPUs {2}2 servers/);
      tmux("send-keys", "-t", name, "2");
      await expect.poll(() => shown(name), wait).toMatch(/^server\^ /m);
      tmux("send-keys", "-t", name, "q");
      await expect.poll(() => shown(name), wait).toMatch(/^before\nended 0\n*$/);
    }
    open("plain", [80, 24], `top --url http://127.0.0.1:${port}`, "NO_COLOR=1");
    await expect.poll(() => shown("plain"), wait).toMatch(/^GPU\^ /m);
    expect(tmux("capture-pane", "-p", "-e", "-t", "plain")).not.toMatch(
      new RegExp(`${String.fromCharCode(27)}\\[(3[0-7]|9[0-7])m`),
    );
    tmux("send-keys", "-t", "own", "q");
    await expect.poll(() => shown("own"), wait).toMatch(/data points[\s\S]*ended 0/);
  });
});
