# SGLang's own metrics code (sglang.srt.observability.metrics_collector) on a free port: sglang_page.py FOLDER.
# As it runs: a tokenizer process and four schedulers (two data-parallel ranks, two tensor-parallel ranks each, all with
# metrics) over PROMETHEUS_MULTIPROC_DIR, and a page of MultiProcessCollector. Prints the port.
import multiprocessing
import os
import sys
import tempfile
from types import SimpleNamespace

import stubs

REAL = [
    "sglang.srt.observability.metrics_collector",
    "sglang.srt.observability.scheduler_stage_metrics",
    "sglang.srt.observability.utils",
    "sglang.srt.utils.gauge_histogram",
]
stubs.install("sglang", sys.argv[1], REAL)


def collector():
    from sglang.srt.observability import metrics_collector

    # What the server's configuration answers; nothing is configured.
    nothing = SimpleNamespace(prompt_tokens_buckets=None, generation_tokens_buckets=None)
    metrics_collector.get_observability = lambda: nothing
    delayer = SimpleNamespace(
        prefill_delayer_max_delay_passes=3,
        prefill_delayer_forward_passes_buckets=None,
        prefill_delayer_wait_seconds_buckets=None,
    )
    metrics_collector.get_schedule = lambda: delayer
    return metrics_collector


def tokenizer():
    metrics = collector()
    labels = {"model_name": "m", "engine_type": "unified", "tenant": ""}
    tokens = metrics.TokenizerMetricsCollector(labels=labels)
    for tenant, prompt, output, cached, streamed in (
        ("acme", 1000, 200, {"device": 300, "host": 100}, True),
        ("acme", 500, 40, {"device": 250, "host": 0}, False),
        ("", 70, 7, None, True),
    ):
        named = {**labels, "tenant": tenant}
        tokens.observe_time_to_first_token(named, 0.05, stream=streamed)
        tokens.observe_inter_token_latency(named, 0.5, 10)
        tokens.observe_one_finished_request(
            named,
            prompt,
            output,
            sum(cached.values()) if cached else 0,
            1.5,
            False,
            cached_tokens_details=cached,
            is_streaming=streamed,
            time_per_output_token=0.01,
        )
    tokens.observe_one_aborted_request(labels)


def scheduler(dp_rank, tp_rank):
    metrics = collector()
    labels = {"model_name": "m", "engine_type": "unified", "tp_rank": tp_rank, "pp_rank": 0, "moe_ep_rank": 0}
    of_rank = metrics.SchedulerMetricsCollector({**labels, "dp_rank": dp_rank}, None)
    of_rank.increment_realtime_tokens(None, prefill_compute_tokens=600, prefill_cache_tokens=300)
    of_rank.increment_realtime_tokens(None, decode_tokens=130)
    of_rank.increment_forward_execution_seconds("extend", 0.25)
    of_rank.increment_forward_execution_seconds("decode", 1.5)
    of_rank.observe_queue_time(0.02)
    count = metrics.QueueCount
    of_rank.log_stats(
        metrics.SchedulerStats(num_running_reqs=count(3), num_queue_reqs=count(1), token_usage=0.25 + 0.5 * dp_rank)
    )


def main():
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    folder = tempfile.TemporaryDirectory()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder.name
    run = multiprocessing.get_context("spawn").Process
    for work in [run(target=tokenizer), *(run(target=scheduler, args=(dp, tp)) for dp in (0, 1) for tp in (0, 1))]:
        work.start()
        work.join()
        if work.exitcode != 0:
            sys.exit(1)
    from prometheus_client import CollectorRegistry, make_wsgi_app, multiprocess

    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)

    class Quiet(WSGIRequestHandler):
        def log_message(self, *arguments):
            pass

    server = make_server("127.0.0.1", 0, make_wsgi_app(registry), handler_class=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
