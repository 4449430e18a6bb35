// The screen of an agent that runs on this terminal, in a process of its own: its parent sends what it would send over HTTP.
// Shown from the first snapshot on, so that an agent that cannot start says so on a terminal as it was. Ends when a person
// ends it, or when its parent goes.
import { hearMessage } from "./attach.ts";
import { Hosts } from "./hosts.ts";
import { lookOf } from "./look.ts";
import { showScreen } from "./terminal.ts";

const NAME = "this host";
const title = process.argv[2];
const hosts = new Hosts([NAME]);
const stop = new AbortController();

process.on("message", (message: string) => hearMessage(message, (said) => hosts.hear(NAME, said)));
process.on("disconnect", () => stop.abort());
// The parent decides: ctrl-c reaches both under npm.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => stop.abort());

const first = Promise.withResolvers<void>();
const cancel = hosts.onChange(() => first.resolve());
stop.signal.addEventListener("abort", () => first.resolve(), { once: true });
await first.promise;
cancel();
if (!stop.signal.aborted) {
  await showScreen({
    feed: hosts,
    look: lookOf(process.env, process.stdout),
    signal: stop.signal,
    ...(title === undefined || title === "" ? {} : { title }),
  });
}
process.exit(0);
