# A Dynamo worker around vLLM's own metrics code: worker.py FOLDER_OF_VLLM. The real runtime serves the endpoint and the
# system port (DYN_SYSTEM_PORT), and passes the engine's families through as Dynamo's vLLM worker does.
import asyncio
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "engines"))
import vllm_page  # noqa: E402

from dynamo.common.utils.prometheus import register_engine_metrics_callback  # noqa: E402
from dynamo.runtime import DistributedRuntime  # noqa: E402
from prometheus_client import REGISTRY  # noqa: E402


async def answer(request, context):
    yield request


async def main():
    vllm_page.serve_requests()
    runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp", event_plane="zmq")
    endpoint = runtime.endpoint("test.backend.generate")
    register_engine_metrics_callback(
        endpoint,
        REGISTRY,
        metric_prefix_filters=["vllm:"],
        namespace_name="test",
        component_name="backend",
        endpoint_name="generate",
        model_name="m",
    )
    await endpoint.serve_endpoint(answer)


asyncio.run(main())
