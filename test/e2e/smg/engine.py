# An engine in gRPC mode, built from the published protos (smg-grpc-proto): engine.py sglang|vllm|tokenspeed.
# GetLoads, GetServerInfo and GetModelInfo answer with every field set, so that a field read for another is seen;
# Generate streams as many tokens as the request allows. Prints its port. Reflection and health as the real ones have.
import io
import os
import sys
import zipfile
from concurrent import futures
from hashlib import sha256

import grpc
from google.protobuf.descriptor import FieldDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from smg_grpc_proto.generated import (
    common_pb2,
    sglang_scheduler_pb2,
    sglang_scheduler_pb2_grpc,
    tokenspeed_scheduler_pb2,
    tokenspeed_scheduler_pb2_grpc,
    vllm_engine_pb2,
    vllm_engine_pb2_grpc,
)

KINDS = {
    "sglang": (sglang_scheduler_pb2, sglang_scheduler_pb2_grpc, "SglangScheduler"),
    "vllm": (vllm_engine_pb2, vllm_engine_pb2_grpc, "VllmEngine"),
    "tokenspeed": (tokenspeed_scheduler_pb2, tokenspeed_scheduler_pb2_grpc, "TokenSpeedScheduler"),
}
MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tiny-model")
DOUBLE, STRING = FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_STRING
INTEGERS = (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32)


def fill(message):
    """Every plain field gets a value of its own that means nothing."""
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            continue
        if field.type in INTEGERS:
            setattr(message, field.name, 1000 + field.number)
        elif field.type == DOUBLE:
            setattr(message, field.name, 0.5 + field.number / 1000)
        elif field.type == STRING:
            setattr(message, field.name, f"not {field.name}")
    return message


def load(messages, rank, running, throughput):
    of_rank = fill(messages.SchedulerLoad())
    of_rank.dp_rank, of_rank.num_running_reqs, of_rank.num_waiting_reqs = rank, running, 5 + rank
    of_rank.token_usage, of_rank.gen_throughput = 0.25 + rank / 2, throughput
    return of_rank


def servicer(kind, messages, base):
    class Engine(base):
        def GetLoads(self, request, context):
            if list(request.include) != ["core"]:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"include is {list(request.include)}")
            answer = fill(messages.GetLoadsResponse())
            answer.version = "0.33.0"
            answer.loads.extend([load(messages, 0, 3, 100.0), load(messages, 1, 4, 60.0)])
            return answer

        def GetServerInfo(self, request, context):
            answer = fill(messages.GetServerInfoResponse())
            if kind == "vllm":
                answer.kv_role, answer.server_type, answer.data_parallel_size = "kv_consumer", "vllm-grpc", 1
                answer.mm_processor = answer.pairing_protocol = answer.constrained_decoding_start = ""
            else:
                answer.server_args.update(
                    {"api_key": "secret", "disaggregation_mode": "decode", "model_path": "/models/one"}
                )
                answer.scheduler_info.update({"served_model_name": "not this one"})
                setattr(answer, f"{kind}_version", "0.5.23")
            return answer

        def GetModelInfo(self, request, context):
            answer = fill(messages.GetModelInfoResponse())
            answer.served_model_name, answer.model_path = "one", "/models/one"
            for name in answer.DESCRIPTOR.fields_by_name:
                if name == "is_generation" or name.endswith("_json"):
                    setattr(answer, name, True if name == "is_generation" else "")
            return answer

        def HealthCheck(self, request, context):
            return messages.HealthCheckResponse(healthy=True)

        def GetTokenizer(self, request, context):
            bundle = io.BytesIO()
            with zipfile.ZipFile(bundle, "w") as archive:
                for name in ("tokenizer.json", "tokenizer_config.json"):
                    archive.write(os.path.join(MODEL, name), name)
            data = bundle.getvalue()
            yield common_pb2.GetTokenizerChunk(data=data, sha256=sha256(data).hexdigest())

        def Generate(self, request, context):
            prompt = len(request.tokenized.input_ids)
            count = getattr(request.sampling_params, "max_tokens" if kind == "vllm" else "max_new_tokens")
            usage = {"prompt_tokens": prompt, "cached_tokens": prompt // 2}
            for token in range(1, count + 1):
                chunk = messages.GenerateStreamChunk(token_ids=[3], completion_tokens=token, **usage)
                yield messages.GenerateResponse(chunk=chunk)
            ids = [] if request.stream else [3] * count
            end = messages.GenerateComplete(output_ids=ids, finish_reason="length", completion_tokens=count, **usage)
            yield messages.GenerateResponse(complete=end)

    return Engine()


def main():
    kind = sys.argv[1]
    messages, services, name = KINDS[kind]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    getattr(services, f"add_{name}Servicer_to_server")(
        servicer(kind, messages, getattr(services, f"{name}Servicer")), server
    )
    full = messages.DESCRIPTOR.services_by_name[name].full_name
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    for service in ("", full):
        healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((full, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    # Ends with its parent, which closes this program's input.
    sys.stdin.read()
    server.stop(None)


main()
