# Answers once and counts COUNT tokens in the families of Triton's TensorRT-LLM back end. A negative COUNT is an error.
import numpy
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.labels = {"model": args["model_name"], "version": args["model_version"]}
        self.families = []
        self.input = self.histogram("nv_llm_input_token_len", "total_input_tokens")
        self.output = self.histogram("nv_llm_output_token_len", "total_output_tokens")

    def histogram(self, name, kind):
        # A family that is let go takes its metrics off the page.
        self.families.append(
            pb_utils.MetricFamily(name=name, description=f"{name}.", kind=pb_utils.MetricFamily.HISTOGRAM)
        )
        labels = {"response_metric_type": kind, **self.labels}
        return self.families[-1].Metric(labels=labels, buckets=[10.0, 50.0, 100.0, 500.0, 1000.0])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        count = int(pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy()[0])
        if count < 0:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("negative"))
        self.input.observe(20)
        self.output.observe(count)
        tensor = pb_utils.Tensor("TOKEN", numpy.array([count], dtype=numpy.int32))
        return pb_utils.InferenceResponse(output_tensors=[tensor])
