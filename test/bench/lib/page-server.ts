// Serves vLLM-shaped pages of a given size, each request with new values: `page-server.ts SERIES`; prints its port.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { vllmPage } from "./text-page.ts";

const pages = Array.from({ length: 8 }, (_, round) => gzipSync(vllmPage(Number(process.argv[2]), round)));
let round = 0;
const server = createServer((_request, response) => {
  response.writeHead(200, { "content-type": "text/plain; version=0.0.4", "content-encoding": "gzip" });
  response.end(pages[round++ % pages.length]);
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
process.on("disconnect", () => process.exit(0));
