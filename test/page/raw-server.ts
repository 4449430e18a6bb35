// A peer that says what a test has it say, byte by byte: a server of bare sockets, which ends with the test. What it does to
// one of them is no error here, and neither is what the other side does.
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import { createServer } from "node:net";
import { onTestFinished } from "vitest";

/** Serves until the running test is over; `connections` gathers what was opened, in order. */
export async function serveRaw(onSocket: (socket: Socket) => void) {
  const connections: Socket[] = [];
  const server = createServer((socket) => {
    connections.push(socket);
    socket.on("error", () => {});
    onSocket(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    for (const socket of connections) socket.destroy();
  });
  return { port: (server.address() as AddressInfo).port, connections };
}
