// The screen on a terminal, the one door to ink and react: they read keys, follow the terminal's size and write only what
// changed; what is drawn is ours (frame.ts). Loaded in the process of the screen alone, never in the agent's.
import { render, Text, useApp, useInput, useWindowSize } from "ink";
import { createElement, useEffect, useState } from "react";
import { drawFrame } from "./frame.ts";
import { headsOf } from "./panels.ts";
import type { Host } from "./rows.ts";
import type { Key } from "./screen-state.ts";
import { initialState, press } from "./screen-state.ts";
import type { Look } from "./text.ts";

/** Hosts as they change. */
export interface HostFeed {
  hosts(): readonly Host[];
  /** Calls whenever something changed, until it is cancelled. */
  onChange(changed: () => void): () => void;
}

/** What a screen is shown with. */
export interface ScreenOptions {
  readonly feed: HostFeed;
  readonly look: Look;
  readonly title?: string;
  /** Ends the screen from outside. */
  readonly signal?: AbortSignal;
}

/** Shows the screen until a person ends it. */
export async function showScreen(options: ScreenOptions): Promise<void> {
  const app = render(createElement(Screen, options), {
    alternateScreen: true,
    exitOnCtrlC: false,
    incrementalRendering: true,
    // The words of CI systems in the environment do not make a terminal less of one.
    interactive: true,
    patchConsole: false,
  });
  options.signal?.addEventListener("abort", () => app.unmount(), { once: true });
  await app.waitUntilExit();
}

function Screen({ feed, look, title }: ScreenOptions): ReturnType<typeof createElement> {
  const { exit } = useApp();
  const { columns, rows } = useWindowSize();
  const [state, setState] = useState(initialState);
  const [hosts, setHosts] = useState(feed.hosts());
  const { isDone, isPaused } = state;
  useEffect(() => {
    if (isPaused) return undefined;
    setHosts(feed.hosts());
    return feed.onChange(() => setHosts(feed.hosts()));
  }, [feed, isPaused]);
  useEffect(() => {
    if (isDone) exit();
  }, [exit, isDone]);
  useInput((input, key) => setState((now) => press(now, input, key as Key, headsOf(now.view))));
  const frame = drawFrame({ hosts, state, columns, rows, look, ...(title === undefined ? {} : { title }) });
  return createElement(Text, { wrap: "truncate" }, frame);
}
