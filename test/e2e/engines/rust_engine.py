# An engine behind vLLM's Rust front end, or smg's gRPC server for vLLM: rust_engine.py FOLDER HANDSHAKE_PORT ENGINES
# [SECONDS_A_TOKEN]. It speaks their protocol with vLLM's own messages (vllm.v1.engine): handshake, requests in, tokens and
# scheduler statistics out. Each request gets as many tokens as it allows; half of its prompt comes from the prefix cache.
import sys
import time

import msgspec
import vllm_page  # noqa: F401  (makes vllm importable)
import zmq
from vllm.v1.engine import (
    EngineCoreEvent,
    EngineCoreEventType,
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreReadyResponse,
    FinishReason,
)
from vllm.v1.metrics.stats import PrefillStats, SchedulerStats

PACE = float(sys.argv[4]) if len(sys.argv) > 4 else 0
encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
READY = {
    "max_model_len": 2048,
    "num_gpu_blocks": 100,
    "block_size": 16,
    "dp_stats_address": None,
    "dtype": "bfloat16",
    "vllm_version": "0.33.0",
    "world_size": 1,
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "decode_context_parallel_size": 1,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 2048,
    "instance_id": "test",
    "supports_lora": False,
    "max_loras": 0,
}


class Engine:
    def __init__(self, context, port, index, engines):
        self.index, self.identity = index, index.to_bytes(2, "little")
        hand = self.dealer(context, f"tcp://127.0.0.1:{port}")
        hand.send(encode({"status": "HELLO", "local": True, "headless": True}))
        addresses = decode(hand.recv())["addresses"]
        self.output = context.socket(zmq.PUSH)
        self.output.connect(addresses["outputs"][0])
        self.input = self.dealer(context, addresses["inputs"][0])
        ready = EngineCoreReadyResponse(data_parallel_size=engines, data_parallel_rank=index, **READY)
        self.input.send(encode(ready))
        hand.send(encode({"status": "READY", "local": True, "headless": True}))

    def dealer(self, context, address):
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.IDENTITY, self.identity)
        socket.connect(address)
        return socket

    def step(self):
        kind, *frames = self.input.recv_multipart()
        if kind == b"\x00":
            request = decode(frames[0])
            sampling = request[3]
            count = sampling["max_tokens"] if isinstance(sampling, dict) else sampling[11]
            self.answer(request[0], request[1], count)
        elif kind == b"\x03":
            client, call, *_ = decode(frames[0])
            self.send(EngineCoreOutputs(engine_index=self.index, utility_output=(call, None, None)))

    def answer(self, request, prompt, count):
        prefill = PrefillStats()
        prefill.set(len(prompt), len(prompt) // 2, 0)
        now = time.monotonic()
        events = [EngineCoreEvent(kind, now - 0.01) for kind in (EngineCoreEventType.QUEUED, EngineCoreEventType.SCHEDULED)]
        for token in range(count):
            time.sleep(PACE)
            output = EngineCoreOutput(
                request_id=request,
                new_token_ids=[3],
                finish_reason=FinishReason.LENGTH if token + 1 == count else None,
                events=events if token == 0 else None,
                prefill_stats=prefill if token == 0 else None,
            )
            last = token + 1 == count
            self.send(
                EngineCoreOutputs(
                    engine_index=self.index,
                    outputs=[output],
                    scheduler_stats=SchedulerStats(num_running_reqs=0 if last else 1, kv_cache_usage=0.25),
                    finished_requests={request} if last else None,
                )
            )

    def send(self, outputs):
        self.output.send(encode(outputs))


def main():
    port, count = int(sys.argv[2]), int(sys.argv[3])
    context = zmq.Context()
    engines = [Engine(context, port, index, count) for index in range(count)]
    poller = zmq.Poller()
    for engine in engines:
        poller.register(engine.input, zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        for engine in engines:
            if engine.input in ready:
                engine.step()


main()
