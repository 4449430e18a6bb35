# vLLM's own metrics code (vllm.v1.metrics and the route of its server) on a free port: vllm_page.py FOLDER single|multi.
# Two data-parallel engines; "multi" is two API servers that each hear from both, over PROMETHEUS_MULTIPROC_DIR.
# Requests are given to IterationStats as the output processor gives them. Prints the port.
import multiprocessing
import sys
import time
from types import SimpleNamespace

import stubs

REAL = [
    "vllm.envs",
    "vllm.logger",
    "vllm.logging_utils",
    "vllm.logging_utils.formatter",
    "vllm.entrypoints.serve.instrumentator.metrics",
    "vllm.v1.engine",
    "vllm.v1.metrics.buckets",
    "vllm.v1.metrics.cache_hit_source",
    "vllm.v1.metrics.loggers",
    "vllm.v1.metrics.prometheus",
    "vllm.v1.metrics.stats",
    "vllm.v1.metrics.utils",
]
stubs.install("vllm", sys.argv[1], REAL)

from vllm.v1.engine import EngineCoreEventType, FinishReason  # noqa: E402
from vllm.v1.metrics.loggers import PrometheusStatLogger  # noqa: E402
from vllm.v1.metrics.stats import (  # noqa: E402
    IterationStats,
    LoRARequestStates,
    PrefillStats,
    RequestStateStats,
    SchedulerStats,
)


def config():
    return SimpleNamespace(
        model_config=SimpleNamespace(served_model_name="m", max_model_len=4096, is_diffusion=False),
        observability_config=SimpleNamespace(
            show_hidden_metrics=False, kv_cache_metrics=False, custom_histogram_buckets=None
        ),
        speculative_config=None,
        lora_config=None,
        kv_transfer_config=None,
        watermark_config=None,
    )


def step(stats, state, tokens, prefill=None):
    now = time.monotonic()
    events = None
    if prefill is not None:
        times = ((EngineCoreEventType.QUEUED, now - 0.05), (EngineCoreEventType.SCHEDULED, now - 0.03))
        events = [SimpleNamespace(type=kind, timestamp=at) for kind, at in times]
    output = SimpleNamespace(
        request_id="r", new_token_ids=[7] * tokens, prefill_stats=prefill, events=events, num_nans_in_logits=0
    )
    stats.update_from_output(output, now, prefill is not None, state, LoRARequestStates(), None)


def request(logger, engine, prompt, local, external, output, reason):
    """One request: its prefill and first token in one step, the rest in a second, its end in a third."""
    prefill = PrefillStats()
    prefill.set(prompt, local, external)
    stats = IterationStats()
    state = RequestStateStats(arrival_time=stats.iteration_timestamp - 0.05)
    step(stats, state, 1, prefill)
    logger.record(SchedulerStats(num_running_reqs=3, num_waiting_reqs=1, kv_cache_usage=0.25), stats, None, engine)
    stats = IterationStats()
    step(stats, state, output - 1)
    logger.record(SchedulerStats(num_running_reqs=3, num_waiting_reqs=1, kv_cache_usage=0.25), stats, None, engine)
    if reason is None:
        return
    stats = IterationStats()
    stats.update_from_finished_request(reason, "r", prompt, 100, state, local + external)
    logger.record(None, stats, None, engine)


def serve_requests():
    logger = PrometheusStatLogger(config(), [0, 1])
    for engine in (0, 1):
        request(logger, engine, 1_000_000, 600_000, 0, 700_001, FinishReason.STOP)
        request(logger, engine, 50, 0, 20, 8, FinishReason.LENGTH)
        request(logger, engine, 30, 0, 0, 5, FinishReason.ABORT)
        request(logger, engine, 30, 0, 0, 5, FinishReason.REPETITION)
    request(logger, 0, 7, 0, 0, 2, None)
    logger.admission_rejections["max_num_queued_reqs"].inc(4)


def main():
    import socket

    import uvicorn
    from fastapi import FastAPI
    from vllm.entrypoints.serve.instrumentator.metrics import attach_router

    if sys.argv[2] == "multi":
        for _ in range(2):
            server = multiprocessing.get_context("spawn").Process(target=serve_requests)
            server.start()
            server.join()
    else:
        serve_requests()
    app = FastAPI()
    attach_router(app)
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run([listening])


if __name__ == "__main__":
    main()
