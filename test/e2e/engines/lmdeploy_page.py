# LMDeploy's own metrics code (lmdeploy.metrics) on a free port: lmdeploy_page.py FOLDER.
# Requests run through its MetricsProcessor as the api_server gives them: a first token, the rest, the end. Prints the
# port.
import asyncio
import sys
import time
from types import SimpleNamespace

import stubs

REAL = [
    "lmdeploy.messages",
    "lmdeploy.metrics.loggers",
    "lmdeploy.metrics.metrics_processor",
    "lmdeploy.metrics.stats",
    "lmdeploy.pytorch.disagg.config",
]
stubs.install("lmdeploy", sys.argv[1], REAL)
sys.modules.setdefault("lmdeploy.pytorch.utils", SimpleNamespace(singleton=lambda cls: cls))
sys.modules.setdefault("lmdeploy.utils", SimpleNamespace(get_logger=__import__("logging").getLogger))

from lmdeploy.messages import ResponseType  # noqa: E402
from lmdeploy.metrics.loggers import PrometheusStatLogger  # noqa: E402
from lmdeploy.metrics.metrics_processor import metrics_processor  # noqa: E402
from lmdeploy.metrics.stats import IterationStats, RequestStats  # noqa: E402


def output(tokens, status, cached):
    metrics = SimpleNamespace(token_timestamp=time.time(), engine_events=[], cached_tokens=cached)
    return SimpleNamespace(token_ids=[7] * tokens, status=status, req_metrics=metrics)


async def request(prompt, tokens, cached, last):
    stats = RequestStats(arrival_time=time.time() - 0.05, prompt_tokens=prompt)
    stats.scheduled_time = stats.queued_time = time.time() - 0.04
    metrics_processor.increase_total_requests()
    for step in (output(1, ResponseType.SUCCESS, cached), output(tokens - 1, last, cached)):
        metrics_processor.queue_update((step, stats, IterationStats(), None))
    await metrics_processor.metrics_queue.join()
    if last == ResponseType.FINISH:
        metrics_processor.increase_succeeded_requests()
    elif last != ResponseType.SUCCESS:
        metrics_processor.increase_failed_requests("cancel" if last == ResponseType.CANCEL else "error")


async def serve_requests():
    metrics_processor.stat_loggers = [PrometheusStatLogger("m", 4096, rank) for rank in (0,)]
    metrics_processor.start_metrics_handler(True)
    await request(1000, 200, 300, ResponseType.FINISH)
    await request(50, 8, 0, ResponseType.FINISH)
    await request(30, 5, 0, ResponseType.CANCEL)
    await request(20, 3, 0, ResponseType.INTERNAL_ENGINE_ERROR)
    await request(10, 2, 0, ResponseType.SUCCESS)
    load = SimpleNamespace(active_seqs=1, waiting_seqs=2, cache_usage=0.25, prefix_cache_hit_rate=0.5)
    await metrics_processor.update_schedule_stats(load)
    await metrics_processor.stop_metrics_handler()


def main():
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    from prometheus_client import REGISTRY, make_wsgi_app

    class Quiet(WSGIRequestHandler):
        def log_message(self, *arguments):
            pass

    asyncio.run(serve_requests())
    server = make_server("127.0.0.1", 0, make_wsgi_app(REGISTRY), handler_class=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
