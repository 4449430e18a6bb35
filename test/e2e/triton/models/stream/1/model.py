# Streams COUNT tokens and counts them in the families of Triton's vLLM back end, so that the page has them as Triton
# writes custom metrics. A negative COUNT is an error; a stream that was given up ends.
import time

import numpy
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def initialize(self, args):
        self.labels = {"model": args["model_name"], "version": args["model_version"]}
        self.families = []
        counter, gauge, histogram = (getattr(pb_utils.MetricFamily, kind) for kind in ("COUNTER", "GAUGE", "HISTOGRAM"))
        self.prompt = self.metric("vllm:prompt_tokens_total", counter)
        self.output = self.metric("vllm:generation_tokens_total", counter)
        self.running = self.metric("vllm:num_requests_running", gauge)
        self.waiting = self.metric("vllm:num_requests_waiting", gauge)
        self.cache = self.metric("vllm:gpu_cache_usage_perc", gauge)
        self.first = self.metric("vllm:time_to_first_token_seconds", histogram, buckets=[0.1, 1.0])
        self.cache.set(0.25)

    def metric(self, name, kind, **more):
        # A family that is let go takes its metrics off the page.
        self.families.append(pb_utils.MetricFamily(name=name, description=f"{name}.", kind=kind))
        return self.families[-1].Metric(labels=self.labels, **more)

    def execute(self, requests):
        for request in requests:
            self.running.set(1)
            self.serve(request)
            self.running.set(0)

    def serve(self, request):
        count = int(pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy()[0])
        sender = request.get_response_sender()
        if count < 0:
            sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("negative")), flags=FINAL)
            return
        self.prompt.increment(10)
        self.first.observe(0.05)
        for token in range(count):
            if request.is_cancelled():
                break
            tensor = pb_utils.Tensor("TOKEN", numpy.array([token], dtype=numpy.int32))
            sender.send(pb_utils.InferenceResponse(output_tensors=[tensor]))
            self.output.increment(1)
            if token >= 100:
                time.sleep(0.001)
        sender.send(flags=FINAL)
