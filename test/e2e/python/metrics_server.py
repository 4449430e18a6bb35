# Serves pages of the real Prometheus client, shaped like vLLM's (single process) or SGLang's (multiprocess).
# Usage: metrics_server.py single|multi; prints its port. "multi" wants PROMETHEUS_MULTIPROC_DIR.
import multiprocessing
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app, multiprocess


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass


def vllm(registry):
    labels = ["model_name", "engine"]
    prompt = Counter("vllm:prompt_tokens", "prefill", labels, registry=registry)
    source = Counter("vllm:prompt_tokens_by_source", "origin", [*labels, "source"], registry=registry)
    output = Counter("vllm:generation_tokens", "output", labels, registry=registry)
    running = Gauge("vllm:num_requests_running", "running", labels, registry=registry)
    first = Histogram("vllm:time_to_first_token_seconds", "ttft", labels, buckets=[0.1, 1], registry=registry)
    success = Counter("vllm:request_success", "done", [*labels, "finished_reason"], registry=registry)
    for engine in ("0", "1"):
        prompt.labels("m", engine).inc(1_500_000)
        source.labels("m", engine, "local_compute").inc(1_000_000)
        source.labels("m", engine, "local_cache_hit").inc(500_000)
        output.labels("m", engine).inc(700_001)
        running.labels("m", engine).set(3)
        first.labels("m", engine).observe(0.05)
        first.labels("m", engine).observe(5)
        success.labels("m", engine, "stop").inc(2)


def sglang_worker(tokens):
    prompt = Counter("sglang:prompt_tokens", "prefill", ["model_name"])
    output = Counter("sglang:generation_tokens", "output", ["model_name"])
    running = Gauge("sglang:num_running_reqs", "running", ["model_name", "tp_rank"], multiprocess_mode="mostrecent")
    prompt.labels("m").inc(10 * tokens)
    output.labels("m").inc(tokens)
    running.labels("m", "0").set(2)


def main():
    registry = CollectorRegistry()
    if sys.argv[1] == "multi":
        for tokens in (100, 23):
            worker = multiprocessing.get_context("spawn").Process(target=sglang_worker, args=(tokens,))
            worker.start()
            worker.join()
        multiprocess.MultiProcessCollector(registry)
    else:
        vllm(registry)
    server = make_server("127.0.0.1", 0, make_wsgi_app(registry), handler_class=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
