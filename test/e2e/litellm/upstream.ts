// An OpenAI-compatible upstream on loopback that answers every chat completion with the same usage, whole or streamed,
// and adds up what it reported. The model's name asks for failures: "broken" answers 500, "busy" 429.

import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/** What one answer reports: cached is part of prompt, reasoning of completion. */
export const reported = { prompt: 1000, cached: 400, completion: 70, reasoning: 25 } as const;

/** The running upstream. */
export interface Upstream {
  readonly url: string;
  /** Answers with usage so far, by model. */
  readonly answered: Map<string, number>;
  close(): void;
}

/** Starts the upstream. */
export async function startUpstream(): Promise<Upstream> {
  const answered = new Map<string, number>();
  const server = createServer((request, response) => {
    answer(request, response, answered).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    answered,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

const usage = {
  prompt_tokens: reported.prompt,
  completion_tokens: reported.completion,
  total_tokens: reported.prompt + reported.completion,
  prompt_tokens_details: { cached_tokens: reported.cached },
  completion_tokens_details: { reasoning_tokens: reported.reasoning },
};

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  answered: Map<string, number>,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const { model, stream } = JSON.parse(Buffer.concat(chunks).toString()) as {
    model: string;
    stream?: boolean;
  };
  const failure = model === "broken" ? 500 : model === "busy" ? 429 : undefined;
  if (failure !== undefined) {
    response.writeHead(failure, { "content-type": "application/json" });
    response.end(
      JSON.stringify({ error: { message: `upstream says ${failure}`, type: "x", code: `${failure}` } }),
    );
    return;
  }
  answered.set(model, (answered.get(model) ?? 0) + 1);
  const head = { id: "chatcmpl-1", created: 1_795_420_000, model };
  if (stream !== true) {
    const message = { role: "assistant", content: "hello there" };
    const choices = [{ index: 0, finish_reason: "stop", message }];
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ ...head, object: "chat.completion", choices, usage }));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (body: object): unknown =>
    response.write(`data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", ...body })}\n\n`);
  const choice = (delta: object, finish: string | null): object => ({
    choices: [{ index: 0, delta, finish_reason: finish }],
  });
  send(choice({ role: "assistant", content: "hello" }, null));
  send(choice({ content: " there" }, null));
  send(choice({}, "stop"));
  send({ choices: [], usage });
  response.end("data: [DONE]\n\n");
}
