// Replicas of a gateway behind one address, on real sockets: each with counters of its own, any of which may answer. What
// they made is known, and their pages may be cut, their series dropped, their processes replaced.
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

const FAMILY = "litellm_output_tokens_metric_total";

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

class Replica {
  readonly start: number;
  readonly users = new Map<string, number>();

  constructor(start: number) {
    this.start = start;
  }

  page(): string {
    const lines = [`process_start_time_seconds ${this.start}`];
    for (const [user, tokens] of this.users) {
      lines.push(`${FAMILY}{end_user="${user}",model="m",team="t"} ${tokens}`);
    }
    return `${lines.join("\n")}\n`;
  }
}

/** The address and what is behind it. */
export interface Replicas {
  readonly url: string;
  /** Tokens made since the replicas were first there. */
  made(): number;
  /** Pages given away whole since the last call. */
  whole(): number;
  /** Makes tokens in a replica; some customers are new, some come back. */
  serve(): void;
  /** Which part of the answers is cut, refused, or sent over a connection that ends. */
  trouble(share: number): void;
  /** Drops the series of a customer; with the next request it begins at zero. */
  evict(): void;
  /** Ends a replica; another one takes its place. */
  replace(): void;
  close(): void;
}

/** Starts replicas that are older than whoever looks at them. */
export async function startReplicas(count: number, random: () => number): Promise<Replicas> {
  const one = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)] as Item;
  const now = (): number => Date.now() / 1000;
  const replicas = Array.from({ length: count }, (_, number) => new Replica(now() - 3600 - 60 * number));
  for (const [number, replica] of replicas.entries()) {
    for (const user of ["a", "b", "c"])
      replica.users.set(user, 100_000 * (number + 1) + Math.floor(random() * 90_000));
  }
  let [made, whole, share] = [0, 0, 0];
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const page = one(replicas).page();
    const luck = random();
    if (luck < share / 3) {
      response.writeHead(503).end();
    } else if (luck < (2 * share) / 3) {
      const lines = page.split("\n");
      const kept = lines.slice(0, Math.floor(random() * lines.length)).join("\n");
      request.socket.end(`HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n${kept}\n`);
    } else {
      if (luck < share) response.setHeader("connection", "close");
      response.setHeader("content-type", "text/plain; version=0.0.4");
      response.end(page);
      whole++;
    }
  };
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`,
    made: () => made,
    whole: () => {
      const seen = whole;
      whole = 0;
      return seen;
    },
    serve: () => {
      const { users } = one(replicas);
      const user = random() < 0.1 ? `user-${Math.floor(random() * 40)}` : one(["a", "b", "c"]);
      const tokens = 1 + Math.floor(random() * 900);
      users.set(user, (users.get(user) ?? 0) + tokens);
      made += tokens;
    },
    trouble: (more) => {
      share = more;
    },
    evict: () => {
      const { users } = one(replicas);
      users.delete(one([...users.keys()]) ?? "");
    },
    replace: () => {
      replicas[Math.floor(random() * count)] = new Replica(now());
    },
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
